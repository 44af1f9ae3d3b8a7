"""The state of a run at one moment, read from its Redis."""

from collections.abc import Sequence
from dataclasses import dataclass

from borgagent.dqn.presets import PRESETS
from borgcore.run.reports import AgentReport, mean_return
from borgcore.run.stats import ReplayStats

JUDGED_EPISODES = 20  # newest episodes whose mean --until-return compares
_GREEDY = 0.05  # agents up to this epsilon are always judged
SILENT_S = 5.0  # an agent reports once a second


@dataclass(frozen=True)
class RunProgress:
    """The state of a run now."""

    run: str
    game: str
    agents: int  # number of agent processes requested
    now_s: float  # Unix time
    elapsed_s: float
    for_s: float | None
    warmup: int  # transitions stored before learning begins
    reports: Sequence[AgentReport]
    stats: ReplayStats | None
    answering: bool = True

    @property
    def pooled_return(self) -> float | None:
        """Mean return over the newest episodes of the agents that explore least; None before there are enough.

        With many agents the first ones never stop exploring, so their returns say little about the network.
        """
        lowest = min((report.epsilon for report in self.reports), default=0.0)
        judged = [report for report in self.reports if report.epsilon <= max(2 * lowest, _GREEDY)]
        return mean_return([episode for report in judged for episode in report.recent], JUDGED_EPISODES)

    @property
    def phase(self) -> str:
        """The current phase of the run."""
        if not self.answering:
            return "Redis does not answer"
        stored = self.stats.size if self.stats else 0
        if any(report.learner and report.learner.updates for report in self.reports):
            return "learning"
        if not self.reports:
            return f"starting {self.agents} agent{'s' if self.agents != 1 else ''}"
        if stored < self.warmup:
            return f"agents warm up: {stored:,} of {self.warmup:,} transitions before learning"
        return "the learner begins"

    def silent(self, report: AgentReport) -> bool:
        """Whether an agent has not reported for a while."""
        return self.now_s - report.at_s > SILENT_S


def warmup_size(preset: str) -> int:
    """Return how many transitions a preset stores before learning begins."""
    return int(PRESETS[preset]["replay"]["min_size"])
