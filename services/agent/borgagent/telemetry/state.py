"""What the stages, the reports, the events and the metrics of one agent share."""

import time
from dataclasses import dataclass, field
from typing import Any

from borgagent.settings import AgentSettings
from borgagent.stages.acting import ActingProgress
from borgagent.stages.election import Membership
from borgagent.stages.learning import LearningProgress
from borgcore.replay import Replay
from borgcore.run.reports import mean_return


@dataclass(slots=True)
class AgentState:
    """One agent, now; the stages keep it up to date, all others only read."""

    settings: AgentSettings
    membership: Membership
    replay: Replay
    acting: ActingProgress = field(default_factory=ActingProgress)
    learning: LearningProgress | None = None
    """None where this agent does not learn, or not yet."""
    began_s: float = field(default_factory=time.monotonic)

    def agent_figures(self) -> dict[str, Any]:
        """Return the agent's figures as they are now, by field of AgentReported; rates and shares left out."""
        acting, fetched_s = self.acting, self.acting.weights_at_s
        return {
            "agent": self.membership.number,
            "agents": self.membership.agents,
            "steps": acting.steps,
            "episodes": acting.episodes,
            "return_20": mean_return(acting.recent, 20),
            "epsilon": acting.epsilon,
            "weights_version": acting.weights_version,
            "weights_age_s": None if fetched_s is None else round(time.monotonic() - fetched_s, 3),
            "stale": self.replay.stale,
            "corrupt": self.replay.corrupt,
        }

    def learner_figures(self, learning: LearningProgress) -> dict[str, Any]:
        """Return the learner's figures as they are now, by field of LearnerReported; rates and shares left out."""
        return {
            "agent": self.membership.number,
            "updates": learning.updates,
            "batch_size": self.settings.learner.batch_size,
            "loss": learning.loss,
            "mean_q": learning.mean_q,
        }

    @property
    def at_work(self) -> bool:
        """Whether it has begun to play or to train."""
        return self.acting.steps > 0 or (self.learning is not None and self.learning.trained)
