"""All hyperparameters of an agent, each with its unit and source."""

from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource

from borgagent.presets import PRESETS, NetworkName, PresetName, choose_preset
from borgcore.errors import SettingsError
from borgcore.keys import RunKeys
from borgcore.replay import ReplaySettings, ReplaySpec
from borgcore.sections import Section
from borgcore.settings import ServiceSettings


class EnvironmentSettings(Section):
    """The game as the agent sees it."""

    height: PositiveInt = 84
    """Frame height, pixels; Mnih et al. 2015."""
    width: PositiveInt = 84
    """Frame width, pixels; Mnih et al. 2015."""
    stack: PositiveInt = 4
    """Frames in one observation; Mnih et al. 2015."""
    envs: PositiveInt = 8
    """Copies of the game per agent, stepped together with one batched inference."""
    threads: PositiveInt = 1
    """Threads that step the copies."""
    frame_skip: PositiveInt = 4
    """Frames each action is repeated for; Mnih et al. 2015."""
    noop_max: NonNegativeInt = 30
    """Most NOOPs at the start of an episode; Mnih et al. 2015."""
    sticky_actions: float = Field(0.0, ge=0.0, lt=1.0)
    """Probability that the previous action is repeated; 0.25 in Machado et al. 2018, 0 in Mnih et al. 2015."""
    max_episode_frames: PositiveInt = 108_000
    """Frames after which an episode is truncated: 30 minutes of play; Mnih et al. 2015."""


class ActorSettings(Section):
    """Playing and assembling transitions."""

    n_steps: PositiveInt = 3
    """Steps a transition spans; Hessel et al. 2018 (Rainbow)."""
    gamma: float = Field(0.99, gt=0.0, lt=1.0)
    """Discount per step; Mnih et al. 2015."""
    reward_clip: PositiveFloat = 1.0
    """Each step's reward is clipped to -x..x for learning; reported returns are true. Mnih et al. 2015."""
    terminal_on_life_loss: bool = True
    """Nothing after a lost life counts towards what came before it; episodes and returns go on. Mnih et al. 2015."""
    epsilon_start: float = Field(1.0, ge=0.0, le=1.0)
    """Share of random actions at the beginning; Mnih et al. 2015."""
    epsilon_end: float = Field(0.01, ge=0.0, le=1.0)
    """Share of random actions after epsilon_steps; Hessel et al. 2018."""
    epsilon_steps: PositiveInt = 250_000
    """Transitions of the whole run over which epsilon falls geometrically; their number in Mnih et al. 2015."""
    chunk_steps: PositiveInt = 16
    """Steps of every copy that are played in one go in a worker thread, then pushed together."""


class LearnerSettings(Section):
    """Training."""

    batch_size: PositiveInt = 32
    """Transitions per train step; Mnih et al. 2015."""
    learning_rate: PositiveFloat = 2.5e-4
    """Adam's step size; grows with the batch, see the presets."""
    adam_epsilon: PositiveFloat = 1.5e-4
    """Adam's epsilon; Hessel et al. 2018, for batches of 32."""
    max_grad_norm: PositiveFloat = 10.0
    """Gradients are scaled down to this norm; Wang et al. 2016 (dueling)."""
    target_rate: float = Field(0.005, gt=0.0, le=1.0)
    """Share of the online network that each train step mixes into the target network; Schwarzer et al. 2023 (BBF)."""
    publish_period_s: PositiveFloat = 1.0
    """Time between published weights, seconds."""
    checkpoint_period_s: PositiveFloat = 60.0
    """Time between checkpoints, seconds."""
    anneal_updates: PositiveInt = 100_000
    """Train steps over which replay's alpha and beta go to their ends; Schaul et al. 2016 take the whole training."""
    samplers: PositiveInt = 2
    """Samples under way at once, so that fetching and decoding overlap with training."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of the train step; auto is bfloat16 autocast on CUDA and, once compiled, on a CPU that has it, else float32."""
    compile: Literal["auto", "never"] = "auto"
    """auto compiles the train step where a C++ compiler is found."""
    threads: PositiveInt = 1
    """Torch's threads per operation on the CPU."""


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
