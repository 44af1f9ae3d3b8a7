"""State of one agent, shared by its stages, reports, events and metrics."""

import time
from dataclasses import dataclass, field
from typing import Any

from borgagent.settings import AgentSettings
from borgagent.stages.acting import ActingProgress
from borgagent.stages.election import Membership
from borgagent.stages.learning import LearningProgress
from borgcore.events.schema import Event
from borgcore.events.training import AgentReported, LearnerReported
from borgcore.replay import Replay
from borgcore.run.reports import mean_return


@dataclass(slots=True)
class AgentState:
    """The current state of one agent: the stages update it, everything else only reads."""

    settings: AgentSettings
    membership: Membership
    replay: Replay
    acting: ActingProgress = field(default_factory=ActingProgress)
    learning: LearningProgress | None = None
    """None if this agent does not learn, or not yet."""
    began_s: float = field(default_factory=time.monotonic)
    """Monotonic time."""

    def agent_figures(self) -> dict[str, Any]:
        """Return the current figures by field of AgentReported, without rates and shares."""
        acting, fetched_s = self.acting, self.acting.weights_at_s
        return _same_named(AgentReported, acting) | {
            "agent": self.membership.number,
            "agents": self.membership.agents,
            "return_20": mean_return(acting.recent, 20),
            "weights_age_s": None if fetched_s is None else round(time.monotonic() - fetched_s, 3),
            "stale": self.replay.stale,
            "corrupt": self.replay.corrupt,
        }

    def learner_figures(self, learning: LearningProgress) -> dict[str, Any]:
        """Return the current figures by field of LearnerReported, without rates and shares."""
        return _same_named(LearnerReported, learning) | {
            "agent": self.membership.number,
            "batch_size": self.settings.learner.batch_size,
        }

    @property
    def at_work(self) -> bool:
        """Whether it has begun to play or to train."""
        return self.acting.steps > 0 or (self.learning is not None and self.learning.trained)


def _same_named(event: type[Event], progress: ActingProgress | LearningProgress) -> dict[str, Any]:
    """Return the figures of an event that a stage keeps under the same name."""
    return {name: getattr(progress, name) for name in event.figures() if hasattr(progress, name)}
