"""The events of the topic training_log, which agents publish."""

from typing import Annotated, Any

from borgcore.events.schema import Event, Figure


class RunStarted(Event):
    """An agent process started or resumed a run."""

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
    """Every setting except secrets, nested; stored, not indexed."""


class RunEnded(Event):
    """An agent process ended: on request, by an error, by a bug, or cut off. A killed process publishes none."""

    topic = "training_log"
    name = "run_ended"

    agent: int
    """Number of the agent, from 1."""
    pid: int
    """Id of the process."""
    steps: int
    """Agent steps (frame_skip frames each) since this process started."""
    episodes: int
    """Episodes since this process started."""
    duration_s: float
    """Time since this process started, seconds."""
    reason: str
    """``asked``; the error in one line; ``a defect:`` and its type; or ``cut off before it had finished``."""


class EpisodeEnded(Event):
    """One finished episode."""

    topic = "training_log"
    name = "episode_ended"

    agent: int
    """Number of the agent, from 1."""
    episode: int
    """Number of the episode since this process started, from 1."""
    episode_return: float
    """True undiscounted return."""
    episode_steps: int
    """Agent steps in the episode."""
    truncated: bool
    """Whether the frame limit ended it."""
    steps: int
    """Agent steps of this process when it ended."""
    inserted: int
    """Transitions that all agents had stored when it ended."""
    epsilon: float
    """Share of random actions."""
    weights_version: int
    """Version of the weights in use."""


class AgentReported(Event):
    """An agent's figures, once a second; rates and shares are over the time since the previous report."""

    topic = "training_log"
    name = "agent_reported"

    agent: int
    """Number of the agent, from 1."""
    agents: Annotated[int, Figure("gauge", "agents", metric="borg_run_agents")]
    """Agents of the run that are alive."""
    steps: Annotated[int, Figure("counter", "agent steps", label="steps", template="{:,}")]
    """Agent steps (frame_skip frames each) since this process started."""
    steps_per_s: Annotated[float, Figure("rate", "agent steps/s", label="steps/s", template="{:,.0f}")]
    """Agent steps per second."""
    episodes: Annotated[int, Figure("counter", "episodes", label="episodes", template="{:,}")]
    """Episodes since this process started."""
    return_20: Annotated[
        float | None, Figure("gauge", "points", label="return 20", template="{:.2f}", metric="borg_agent_return")
    ]
    """Mean return of the newest 20 episodes; absent before 20 have ended."""
    epsilon: Annotated[float, Figure("gauge", "1", label="epsilon", template="{:.4f}")]
    """Share of random actions."""
    weights_version: Annotated[int, Figure("gauge", "1", label="weights", template="{:,}")]
    """Version of the weights in use."""
    weights_age_s: Annotated[float | None, Figure("gauge", "s", metric="borg_agent_weights_age_seconds")]
    """Policy lag: time since the weights in use were fetched, seconds; absent before the first fetch."""
    pause_share: Annotated[float, Figure("share", "1", metric="borg_agent_pause_seconds")]
    """Share of the time acting was paused by the limiter or by a full push queue."""
    stale: Annotated[int, Figure("counter", "priorities", metric="borg_agent_stale_priorities")]
    """Priorities that arrived too late, for transitions already overwritten, since this process started."""
    corrupt: Annotated[int, Figure("counter", "transitions", metric="borg_agent_corrupt_transitions")]
    """Stored transitions that could not be decoded, since this process started."""
    events_dropped: Annotated[int, Figure("counter", "events", metric="")]
    """Events dropped because the log was unavailable, since this process started."""


class LearnerReported(Event):
    """The learner's figures, once a second; rates and shares are over the time since the previous report."""

    topic = "training_log"
    name = "learner_reported"

    agent: int
    """Number of the agent that trains."""
    updates: Annotated[int, Figure("counter", "train steps", label="train steps", template="{:,} updates")]
    """Train steps since the run began, restarts included."""
    batch_size: Annotated[int, Figure("gauge", "transitions", label="batch", template=" of {}")]
    """Transitions in one train step."""
    updates_per_s: Annotated[float, Figure("rate", "train steps/s", label="train steps/s", template=", {:.1f}/s")]
    """Train steps per second."""
    samples_per_s: Annotated[float, Figure("rate", "transitions/s", label="samples/s", template=", {:,.0f} samples/s")]
    """Transitions trained on per second."""
    loss: Annotated[float, Figure("gauge", "1", label="loss", template=", loss {:.4f}")]
    """Mean Huber loss, weighted by importance."""
    mean_q: Annotated[float, Figure("gauge", "1", label="mean Q", template=", mean Q {:.3f}")]
    """Mean Q value of the actions in the batches."""
    wait_share: Annotated[
        float,
        Figure("share", "1", "for data", ", waiting for data {:.1%}", metric="borg_learner_wait_seconds"),
    ]
    """Share of the time spent waiting for data, without waits for the rate limiter."""
    limiter_share: Annotated[
        float,
        Figure("share", "1", "for inserts", ", for the limiter {:.1%}", metric="borg_learner_limiter_wait_seconds"),
    ]
    """Share of the time spent waiting because samples were ahead of inserts."""
