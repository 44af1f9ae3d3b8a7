"""The hyperparameters of acting and training, each with its unit and source."""

from typing import Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from borgcore.settings.sections import Section


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
    """Frames for which each action is repeated; Mnih et al. 2015."""
    noop_max: NonNegativeInt = 30
    """Most NOOPs at the start of an episode; Mnih et al. 2015."""
    sticky_actions: float = Field(0.0, ge=0.0, lt=1.0)
    """Probability that the previous action is repeated; 0.25 in Machado et al. 2018, 0 in Mnih et al. 2015."""
    max_episode_frames: PositiveInt = 108_000
    """Frames after which an episode is truncated: 30 minutes of play; Mnih et al. 2015."""


class ActorSettings(Section):
    """Acting, and assembling transitions."""

    n_steps: PositiveInt = 3
    """Steps a transition spans; Hessel et al. 2018 (Rainbow)."""
    gamma: float = Field(0.99, gt=0.0, lt=1.0)
    """Discount per step; Mnih et al. 2015."""
    reward_clip: PositiveFloat = 1.0
    """Each step's reward is clipped to -x..x for learning; reported returns are not. Mnih et al. 2015."""
    terminal_on_life_loss: bool = True
    """For learning, a lost life is a terminal state; the episode and its reported return continue. Mnih et al. 2015."""
    epsilon_start: float = Field(1.0, ge=0.0, le=1.0)
    """Share of random actions at the start of a run; Mnih et al. 2015."""
    epsilon_end: float = Field(0.01, ge=0.0, le=1.0)
    """Share of random actions after epsilon_steps; Hessel et al. 2018."""
    epsilon_steps: PositiveInt = 250_000
    """Transitions, of all agents together, over which epsilon falls geometrically; the count of Mnih et al. 2015."""
    chunk_steps: PositiveInt = 16
    """Steps of every copy played in one call in a worker thread, then pushed together."""


class LearnerSettings(Section):
    """Training."""

    batch_size: PositiveInt = 32
    """Transitions per train step; Mnih et al. 2015."""
    learning_rate: PositiveFloat = 2.5e-4
    """Adam's step size; larger batches allow a larger one, see the presets."""
    adam_epsilon: PositiveFloat = 1.5e-4
    """Adam's epsilon; Hessel et al. 2018, for batches of 32."""
    max_grad_norm: PositiveFloat = 10.0
    """Gradients are scaled down to this norm; Wang et al. 2016 (dueling)."""
    target_rate: float = Field(0.005, gt=0.0, le=1.0)
    """Share of the online network mixed into the target network by each train step; Schwarzer et al. 2023 (BBF)."""
    publish_period_s: PositiveFloat = 1.0
    """Time between published weights, seconds."""
    checkpoint_period_s: PositiveFloat = 60.0
    """Time between checkpoints, seconds."""
    anneal_updates: PositiveInt = 100_000
    """Train steps over which the replay's alpha and beta move to their ends; all of them in Schaul et al. 2016."""
    samplers: PositiveInt = 2
    """Samples drawn concurrently, so that fetching and decoding overlap with training."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Number format of the train step; auto is bfloat16 (autocast) on CUDA and, once compiled, on a CPU with bfloat16
    instructions, else float32."""
    compile: Literal["auto", "never"] = "auto"
    """auto compiles the train step if a C++ compiler is found."""
    threads: PositiveInt = 1
    """Threads that torch uses for one operation on the CPU."""
