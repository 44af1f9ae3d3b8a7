"""Each agent's newest report in the run's Redis: the events that it publishes, for ``borg up`` to show."""

from collections.abc import Sequence
from typing import Any

import structlog
from pydantic import ValidationError
from redis.asyncio import Redis

from borgcore.events.schema import Event
from borgcore.events.training import AgentReported, LearnerReported
from borgcore.run.keys import RunKeys

MAX_RECENT = 100  # episodes in a report
_MAX_REPORT_BYTES = 64 << 10
_MAX_REPORTS = 4096
_log = structlog.get_logger()


class AgentReport(AgentReported):
    """One agent now: what it publishes each second, and what only the run's Redis keeps."""

    pid: int
    at_s: float
    """Unix time."""
    recent: tuple[tuple[float, float], ...] = ()
    """(Unix time, true undiscounted return) of the newest episodes, newest last."""
    learner: LearnerReported | None = None

    @property
    def events(self) -> list[Event]:
        """The events that the report is made of."""
        own = AgentReported(**{name: getattr(self, name) for name in AgentReported.model_fields})
        return [own] if self.learner is None else [own, self.learner]

    def mean_return(self, last: int = 20) -> float | None:
        """Return the mean over the ``last`` newest episodes; None before ``last`` have ended."""
        return mean_return(self.recent, last)


def mean_return(recent: Sequence[tuple[float, float]], last: int) -> float | None:
    """Return the mean over the ``last`` newest (time, return) pairs, or None if there are fewer."""
    newest = sorted(recent)[-last:]
    return sum(value for _, value in newest) / last if len(newest) == last else None


async def write_report(redis: Redis, run: str, report: AgentReport) -> None:
    """Replace the agent's report."""
    await redis.hset(RunKeys(run).reports, str(report.agent), report.model_dump_json())


async def read_reports(redis: Redis, run: str) -> list[AgentReport]:
    """Read every agent's newest report, ordered by number; invalid ones are skipped and logged."""
    key = RunKeys(run).reports
    if await redis.hlen(key) > _MAX_REPORTS:
        _log.warning("reports_refused", key=key, most=_MAX_REPORTS)
        return []
    found: Any = await redis.hgetall(key)  # bytes to bytes: decode_responses is off
    reports = []
    for name, raw in found.items():
        try:
            if len(raw) > _MAX_REPORT_BYTES:
                raise ValueError(len(raw))  # noqa: TRY301  # one place says what was left out
            reports.append(AgentReport.model_validate_json(raw))
        except (ValidationError, ValueError):
            _log.warning("report_refused", agent=name.decode(errors="replace")[:20], size_bytes=len(raw))
    return sorted(reports, key=lambda report: report.agent)
