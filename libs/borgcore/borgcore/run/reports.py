"""What each agent says of itself once a second; ``borg up`` shows it, the event log carries the same figures."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import orjson
import structlog
from pydantic import TypeAdapter, ValidationError
from redis.asyncio import Redis

from borgcore.run.keys import RunKeys

MAX_RECENT = 100  # episodes in a report
_MAX_REPORT_BYTES = 64 << 10
_MAX_REPORTS = 4096
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class LearnerReport:
    """The learner's part; rates and shares are over the last second."""

    updates: int
    """Train steps since the run began, restarts included."""
    updates_per_s: float
    loss: float
    """Mean Huber loss, weighted by importance."""
    mean_q: float
    """Mean Q value of the actions in the batches."""
    wait_share: float
    """Share of the time spent waiting for data, limiter waits left out."""
    limiter_share: float
    """Share of the time spent waiting because samples were ahead of inserts."""
    batch_size: int

    @property
    def samples_per_s(self) -> float:
        """Transitions trained on."""
        return self.updates_per_s * self.batch_size


@dataclass(frozen=True, slots=True)
class AgentReport:
    """One agent, now."""

    agent: int
    pid: int
    at_s: float
    """Unix time."""
    steps: int
    """Agent steps (frame_skip frames each) since this process began."""
    steps_per_s: float
    episodes: int
    epsilon: float
    weights_version: int
    recent: list[tuple[float, float]] = field(default_factory=list)
    """(Unix time, true undiscounted return) of the newest episodes, newest last."""
    pause_share: float = 0.0
    """Share of the time acting was paused by the limiter or by a full push queue."""
    learner: LearnerReport | None = None

    def mean_return(self, last: int = 20) -> float | None:
        """Mean over the ``last`` newest episodes; None before ``last`` have ended."""
        return mean_return(self.recent, last)


def mean_return(recent: Sequence[tuple[float, float]], last: int) -> float | None:
    """Mean return over the ``last`` newest (time, return) pairs; None where there are fewer."""
    newest = sorted(recent)[-last:]
    return sum(value for _, value in newest) / last if len(newest) == last else None


_ADAPTER: TypeAdapter[AgentReport] = TypeAdapter(AgentReport)


async def write_report(redis: Redis, run: str, report: AgentReport) -> None:
    """Replace the agent's report."""
    await redis.hset(RunKeys(run).reports, str(report.agent), orjson.dumps(asdict(report)))


async def read_reports(redis: Redis, run: str) -> list[AgentReport]:
    """Read every agent's newest report, by number; what is no report is left out and logged."""
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
            reports.append(_ADAPTER.validate_json(raw))
        except (ValidationError, ValueError):
            _log.warning("report_refused", agent=name.decode(errors="replace")[:20], size_bytes=len(raw))
    return sorted(reports, key=lambda report: report.agent)
