"""What the stages, the reports, the events and the metrics of one agent share."""

import time
from dataclasses import dataclass, field

from borgagent.settings import AgentSettings
from borgagent.stages.acting import ActingProgress
from borgagent.stages.election import Membership
from borgagent.stages.learning import LearningProgress
from borgcore.replay import Replay


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

    @property
    def at_work(self) -> bool:
        """Whether it has begun to play or to train."""
        return self.acting.steps > 0 or (self.learning is not None and self.learning.trained)
