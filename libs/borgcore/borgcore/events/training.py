"""The events of the topic training_log, which agents publish."""

from typing import Annotated, Any

from borgcore.events.schema import Event, Figure


class RunStarted(Event):
    """An agent process began, or went on with, a run."""

    topic = "training_log"
    name = "run_started"

    agent: int
    """Number of the agent, from 1."""
    pid: int
    """Id of the process."""
    game: str
    """Name of the game, such as Pong."""
    preset: str
    """Name of the preset: tiny, small or nature."""
    learn: str
    """Who learns: elected, private, never or only."""
    device: str
    """Where the networks run: cpu or cuda."""
    version: str
    """Version of the agent."""
    settings: dict[str, Any]
    """Every setting but secrets, nested; kept, not indexed."""


class RunEnded(Event):
    """An agent process ended: as it was asked to, by an error or a defect, or cut off; a killed one says nothing."""

    topic = "training_log"
    name = "run_ended"

    agent: int
    """Number of the agent, from 1."""
    pid: int
    """Id of the process."""
    steps: int
    """Agent steps (frame_skip frames each) since this process began."""
    episodes: int
    """Episodes since this process began."""
    duration_s: float
    """Time since this process began, seconds."""
    reason: str
    """``asked``; the error in one line; ``a defect:`` and its type; or ``cut off before it had finished``."""


class EpisodeEnded(Event):
    """One finished episode."""

    topic = "training_log"
    name = "episode_ended"

    agent: int
    """Number of the agent, from 1."""
    episode: int
    """Number of the episode since this process began, from 1."""
    episode_return: float
    """True undiscounted return."""
    episode_steps: int
    """Agent steps that it took."""
    truncated: bool
    """Whether it ended by the limit of frames."""
    steps: int
    """Agent steps of this process when it ended."""
    inserted: int
    """Transitions of all agents ever stored when it ended."""
    epsilon: float
    """Share of random actions."""
    weights_version: int
    """Version of the weights in use."""


class AgentReported(Event):
    """An agent, once a second; rates and shares are over the time since the report before."""

    topic = "training_log"
    name = "agent_reported"

    agent: int
    """Number of the agent, from 1."""
    agents: Annotated[int, Figure("gauge", metric="borg_run_agents")]
    """Agents of the run that are alive."""
    steps: Annotated[int, Figure("counter", "steps", "{:,}")]
    """Agent steps (frame_skip frames each) since this process began."""
    steps_per_s: Annotated[float, Figure("rate", "steps/s", "{:,.0f}")]
    """Agent steps per second."""
    episodes: Annotated[int, Figure("counter", "episodes", "{:,}")]
    """Episodes since this process began."""
    return_20: Annotated[float | None, Figure("gauge", "return 20", "{:.2f}", metric="borg_agent_return")]
    """Mean return of the newest 20 episodes; absent before there are so many."""
    epsilon: Annotated[float, Figure("gauge", "epsilon", "{:.3f}")]
    """Share of random actions."""
    weights_version: Annotated[int, Figure("gauge", "weights", "{:,}")]
    """Version of the weights in use."""
    weights_age_s: Annotated[float | None, Figure("gauge", metric="borg_agent_weights_age_seconds")]
    """Policy lag: time since the weights in use were fetched, seconds; absent before the first."""
    pause_share: Annotated[float, Figure("share", metric="borg_agent_pause_seconds")]
    """Share of the time acting was paused by the limiter or by a full push queue."""
    stale: Annotated[int, Figure("counter", metric="borg_agent_stale_priorities")]
    """Priorities that came too late, for transitions already overwritten, since this process began."""
    corrupt: Annotated[int, Figure("counter", metric="borg_agent_corrupt_transitions")]
    """Stored transitions that could not be decoded, since this process began."""
    events_dropped: Annotated[int, Figure("counter", metric="")]
    """Events dropped because the log was away, since this process began."""


class LearnerReported(Event):
    """The learner, once a second; rates and shares are over the time since the report before."""

    topic = "training_log"
    name = "learner_reported"

    agent: int
    """Number of the agent that trains."""
    updates: Annotated[int, Figure("counter", "train steps", "{:,} updates")]
    """Train steps since the run began, restarts included."""
    batch_size: Annotated[int, Figure("gauge", "batch", " of {}")]
    """Transitions in one train step."""
    updates_per_s: Annotated[float, Figure("rate", "train steps/s", ", {:.1f}/s")]
    """Train steps per second."""
    samples_per_s: Annotated[float, Figure("rate", "samples/s", ", {:,.0f} samples/s")]
    """Transitions trained on per second."""
    loss: Annotated[float, Figure("gauge", "loss", ", loss {:.4f}")]
    """Mean Huber loss, weighted by importance."""
    mean_q: Annotated[float, Figure("gauge", "mean Q", ", mean Q {:.3f}")]
    """Mean Q value of the actions in the batches."""
    wait_share: Annotated[
        float, Figure("share", "for data", ", waiting for data {:.1%}", metric="borg_learner_wait_seconds")
    ]
    """Share of the time spent waiting for data, limiter waits left out."""
    limiter_share: Annotated[
        float, Figure("share", "for inserts", ", for the limiter {:.1%}", metric="borg_learner_limiter_wait_seconds")
    ]
    """Share of the time spent waiting because samples were ahead of inserts."""
