"""The agent's settings: presets, modes, and the sections of hyperparameters."""

from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource

from borgagent.dqn.presets import PRESETS, NetworkName, PresetName, choose_preset
from borgagent.dqn.settings import ActorSettings, EnvironmentSettings, LearnerSettings
from borgcore.errors import SettingsError
from borgcore.replay import ReplaySettings, ReplaySpec
from borgcore.run.keys import RunKeys
from borgcore.settings.sections import Section
from borgcore.settings.service import ServiceSettings


class AgentOverrides(Section):
    """Settings of one agent, by its number: the TOML table ``[agents.<n>]``."""

    epsilon: float | None = Field(None, ge=0.0, le=1.0)
    """Constant share of random actions, instead of the schedule."""
    seed: NonNegativeInt | None = None
    """Seed of this agent's actor."""
    envs: PositiveInt | None = None
    """Copies of the game, instead of environment.envs."""


class AgentSettings(ServiceSettings):
    """Play Atari, push every transition into the run's replay memory, and learn from what all agents stored."""

    service: ClassVar[str] = "agent"

    game: str = "pong"
    """An Atari game by its ROM's name (pong, breakout, space_invaders …), or catch."""
    preset: PresetName = "auto"
    """Defaults of the settings below: tiny (Catch), small (42x42, CPU) or nature (84x84, GPU); auto chooses."""
    learn: Literal["elected", "private", "never", "only"] = "elected"
    """elected: agent 1 also trains; private: each trains a network of its own; never: only act; only: only train."""
    seed: NonNegativeInt = 0
    """Seed of the run; every agent derives its own from this and its number."""
    checkpoint_dir: Path | None = None
    """Folder of the checkpoints; runs/<run>/checkpoints by default."""
    lease_s: PositiveFloat = 4.0
    """Time after which the number of a silent agent, and with number 1 the learner's role, is free again, seconds."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the networks run; auto takes CUDA if there is a GPU."""
    network: NetworkName = "nature"
    """Shape of the network."""
    environment: EnvironmentSettings = EnvironmentSettings()
    """The game as the agent sees it."""
    actor: ActorSettings = ActorSettings()
    """Acting, and assembling transitions."""
    replay: ReplaySettings = ReplaySettings()
    """The run's replay memory; the first agent of a run sets it up."""
    learner: LearnerSettings = LearnerSettings()
    """Training."""
    agents: dict[int, AgentOverrides] = Field(default_factory=dict)
    """Settings of single agents, by number."""

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], *sources: PydanticBaseSettingsSource, **named: PydanticBaseSettingsSource
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Append the preset's defaults as the source of lowest priority."""
        return (*super().settings_customise_sources(settings_cls, *sources, **named), _PresetDefaults(settings_cls))

    def checkpoints_of(self, owner: int | None) -> Path:
        """Return the folder of the run's checkpoints, or of those of agent ``owner`` if it trains a private network."""
        folder = self.checkpoint_dir or Path("runs") / self.run / "checkpoints"
        return folder if owner is None else folder / str(owner)

    @property
    def seeded_replay(self) -> ReplaySettings:
        """The replay memory's settings, with the run's seed unless they have one of their own."""
        own = self.replay.seed
        return self.replay if own is not None else self.replay.model_copy(update={"seed": self.seed})

    @property
    def keys(self) -> RunKeys:
        """The run's keys in Redis."""
        return RunKeys(self.run)

    def spec(self, actions: int) -> ReplaySpec:
        """Return the shape of this run's transitions for a game of ``actions`` actions."""
        view = self.environment
        return ReplaySpec(
            game=self.game,
            stack=view.stack,
            height=view.height,
            width=view.width,
            n=self.actor.n_steps,
            actions=actions,
            gamma=self.actor.gamma,
        )


class _PresetDefaults(InitSettingsSource):
    """The source of lowest priority; sees the game and the preset that the other sources gave."""

    def __init__(self, settings_cls: type[BaseSettings]) -> None:
        super().__init__(settings_cls, init_kwargs={})

    def __call__(self) -> dict[str, Any]:
        game = str(self.current_state.get("game", AgentSettings.model_fields["game"].default))
        asked = self.current_state.get("preset", "auto")
        if asked not in ("auto", *PRESETS):
            return {}  # validation reports it
        cuda = self.current_state.get("device") != "cpu" and torch.cuda.is_available()
        chosen = choose_preset(asked, game, cuda=cuda)
        if (chosen == "tiny") != (game == "catch"):
            raise SettingsError(
                f"preset {chosen} does not fit {game}: tiny is for catch, small and nature are for Atari; "
                "nothing was started"
            )
        return {"preset": chosen, **PRESETS[chosen]}
