"""All hyperparameters of an agent, each with its unit and source."""

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
    """What one agent, by its number, does differently: the TOML table ``[agents.<n>]``."""

    epsilon: float | None = Field(None, ge=0.0, le=1.0)
    """A constant share of random actions in place of the schedule."""
    seed: NonNegativeInt | None = None
    """Seed of this agent."""
    envs: PositiveInt | None = None
    """Copies of the game."""


class AgentSettings(ServiceSettings):
    """Play Atari, push every transition into the run's replay memory, and learn from the memory of all."""

    service: ClassVar[str] = "agent"

    game: str = "pong"
    """An Atari game by its ROM's name (pong, breakout, space_invaders …), or catch."""
    preset: PresetName = "auto"
    """Defaults for everything below: small (42x42, CPU), nature (84x84, GPU), tiny (Catch); auto chooses."""
    learn: Literal["elected", "private", "never", "only"] = "elected"
    """elected: the agent with number 1 trains, too; private: each trains a network of its own; never; only."""
    seed: NonNegativeInt = 0
    """Seed of the run; each agent adds its number."""
    checkpoint_dir: Path | None = None
    """Folder of the checkpoints; runs/<run>/checkpoints where not given."""
    lease_s: PositiveFloat = 4.0
    """Time after which a silent agent's number, and with it the learner's role, is free again, seconds."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the networks run; auto takes CUDA where it is there."""
    network: NetworkName = "nature"
    """Shape of the network; the preset's where not given."""
    environment: EnvironmentSettings = EnvironmentSettings()
    """The game as the agent sees it."""
    actor: ActorSettings = ActorSettings()
    """Playing and assembling transitions."""
    replay: ReplaySettings = ReplaySettings()
    """The run's replay memory; the first agent's settings hold for the run."""
    learner: LearnerSettings = LearnerSettings()
    """Training."""
    agents: dict[int, AgentOverrides] = Field(default_factory=dict)
    """What single agents, by number, do differently."""

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], *sources: PydanticBaseSettingsSource, **named: PydanticBaseSettingsSource
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Put the preset's defaults under every other source."""
        return (*super().settings_customise_sources(settings_cls, *sources, **named), _PresetDefaults(settings_cls))

    def checkpoints_of(self, owner: int | None) -> Path:
        """Folder of the run's checkpoints, or of those of the one agent that trains its own network."""
        folder = self.checkpoint_dir or Path("runs") / self.run / "checkpoints"
        return folder if owner is None else folder / str(owner)

    @property
    def seeded_replay(self) -> ReplaySettings:
        """The replay memory's settings, its draws seeded by the run's seed where they have none of their own."""
        own = self.replay.seed
        return self.replay if own is not None else self.replay.model_copy(update={"seed": self.seed})

    @property
    def keys(self) -> RunKeys:
        """The run's keys in Redis."""
        return RunKeys(self.run)

    def spec(self, actions: int) -> ReplaySpec:
        """The shape of this run's transitions."""
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
    """The lowest source: knows game and preset from those above it."""

    def __init__(self, settings_cls: type[BaseSettings]) -> None:
        super().__init__(settings_cls, init_kwargs={})

    def __call__(self) -> dict[str, Any]:
        game = str(self.current_state.get("game", AgentSettings.model_fields["game"].default))
        asked = self.current_state.get("preset", "auto")
        if asked not in ("auto", *PRESETS):
            return {}  # validation names it
        cuda = self.current_state.get("device") != "cpu" and torch.cuda.is_available()
        chosen = choose_preset(asked, game, cuda=cuda)
        if (chosen == "tiny") != (game == "catch"):
            raise SettingsError(
                f"preset {chosen} does not fit {game}: tiny is for catch, small and nature are for Atari; "
                "nothing was started"
            )
        return {"preset": chosen, **PRESETS[chosen]}
