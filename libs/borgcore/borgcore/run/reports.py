"""Each agent's newest report in the run's Redis: the events that it publishes and more fields, for ``borg up``."""

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
    """The events that an agent publishes each second, as one object, and fields that only the report has."""

    pid: int
    at_s: float
    """Unix time."""
    recent: tuple[tuple[float, float], ...] = ()
    """(Unix time, true undiscounted return) of the newest episodes, newest last."""
    learner: LearnerReported | None = None
    """None if this agent does not learn, or has not yet trained."""

    @property
    def events(self) -> list[Event]:
        """Return the events in the report."""
        own = AgentReported(**{name: getattr(self, name) for name in AgentReported.model_fields})
        return [own] if self.learner is None else [own, self.learner]

    def mean_return(self, last: int = 20) -> float | None:
        """Return the mean over the ``last`` newest episodes, or None before that many have ended."""
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
                raise ValueError(len(raw))  # noqa: TRY301  # logged below with the others
            reports.append(AgentReport.model_validate_json(raw))
        except (ValidationError, ValueError):
            _log.warning("report_refused", agent=name.decode(errors="replace")[:20], size_bytes=len(raw))
    return sorted(reports, key=lambda report: report.agent)
