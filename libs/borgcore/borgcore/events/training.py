"""The events of the topic training_log, which agents publish."""

from typing import Any

from borgcore.events.schema import Event


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
    agents: int
    """Agents of the run that are alive."""
    steps: int
    """Agent steps (frame_skip frames each) since this process began."""
    steps_per_s: float
    """Agent steps per second."""
    episodes: int
    """Episodes since this process began."""
    return_20: float | None
    """Mean return of the newest 20 episodes; absent before there are so many."""
    epsilon: float
    """Share of random actions."""
    weights_version: int
    """Version of the weights in use."""
    weights_age_s: float | None
    """Policy lag: time since the weights in use were fetched, seconds; absent before the first."""
    pause_share: float
    """Share of the time acting was paused by the limiter or by a full push queue."""
    stale: int
    """Priorities that came too late, for transitions already overwritten, since this process began."""
    corrupt: int
    """Stored transitions that could not be decoded, since this process began."""
    events_dropped: int
    """Events dropped because the log was away, since this process began."""


class LearnerReported(Event):
    """The learner, once a second; rates and shares are over the time since the report before."""

    topic = "training_log"
    name = "learner_reported"

    agent: int
    """Number of the agent that trains."""
    updates: int
    """Train steps since the run began, restarts included."""
    updates_per_s: float
    """Train steps per second."""
    samples_per_s: float
    """Transitions trained on."""
    batch_size: int
    """Transitions in one train step."""
    loss: float
    """Mean Huber loss, weighted by importance."""
    mean_q: float
    """Mean Q value of the actions in the batches."""
    wait_share: float
    """Share of the time spent waiting for data, limiter waits left out."""
    limiter_share: float
    """Share of the time spent waiting because samples were ahead of inserts."""
