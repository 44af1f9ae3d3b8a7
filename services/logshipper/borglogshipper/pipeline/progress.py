"""A logshipper's counters and outages, for its reports, metrics and health."""

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum

import structlog
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from borgcore.connection.retry import Outage
from borgcore.eventlog.protocol import Loss, RetentionUse
from borgcore.service.health import Health
from borglogshipper.stores.store import Outcome, StoreBusyError, StoreHeldError, Verdict

LOSS_SHOWN_S = 3_600.0  # how long a loss keeps /readyz from answering 200
NEAR_SHARE = 0.5  # of a log's retention, from which unread records are considered in danger
_log = structlog.get_logger()


class Trouble(Enum):
    """Why a delivery is held up."""

    BUSY = "store_busy"
    """The store is unavailable or overloaded; delivery resumes by itself."""
    HELD = "store_held"
    """A person must fix something first."""


@dataclass(slots=True)
class ShippingProgress:
    """Counters since the process began."""

    shipped: int = 0
    """Documents in the store, including those that were there already."""
    repeated: int = 0
    """Documents that were in the store already."""
    dead_letters: int = 0
    """Records sent to dead_letter."""
    retried: int = 0
    """Documents sent again."""
    batches: int = 0
    size_bytes: int = 0
    """Bytes of the documents in the store."""
    under_way: int = 0
    """Records read but not done yet."""
    lag: int = 0
    """Records in the log that were not in the store yet at the last report."""
    lost: int = 0
    """Records that the log deleted before they were read."""
    retention_use: RetentionUse = field(default_factory=RetentionUse)
    """How near the oldest unread record was to being deleted at the last report."""
    _loss: str = ""
    _lost_s: float = 0.0

    @property
    def recent_loss(self) -> str | None:
        """The newest loss, for ``LOSS_SHOWN_S``; then None."""
        return self._loss if self._loss and time.monotonic() - self._lost_s < LOSS_SHOWN_S else None

    @property
    def danger(self) -> str | None:
        """Why unread records may soon be deleted; None while they are safe."""
        return self.retention_use.text if self.retention_use.share >= NEAR_SHARE else None

    def note_loss(self, loss: Loss) -> None:
        """Count and log records that the log deleted before they were read."""
        self.lost += loss.records
        partition = f"{loss.partition.topic}-{loss.partition.number}"
        self._loss, self._lost_s = f"{loss.records} records of {partition} are lost: {loss.reason}", time.monotonic()
        _log.warning(
            "records_lost",
            topic=loss.partition.topic,
            partition=loss.partition.number,
            records=loss.records,
            reason=loss.reason,
            consequence="they never reach the store",
        )

    def note_retention_use(self, use: RetentionUse) -> None:
        """Keep the newest value; log when unread records get into danger, and when they are safe again."""
        before, self.retention_use = self.danger, use
        if self.danger and not before:
            _log.warning("retention_near", reason=use.text, consequence="unread records will be deleted and lost")
        elif before and not self.danger:
            _log.info("retention_cleared")

    def metrics(self, labels: dict[str, str]) -> Iterable[Metric]:
        """Yield the counters as Prometheus metrics."""
        counters = {
            "documents": (self.shipped, "Documents in the store, including those that were there already"),
            "repeated_documents": (self.repeated, "Documents that were in the store already"),
            "dead_letters": (self.dead_letters, "Records sent to dead_letter"),
            "retried_documents": (self.retried, "Documents sent again"),
            "lost_records": (self.lost, "Records that the log deleted before they were read"),
            "batches": (self.batches, "Batches shipped"),
            "bytes": (self.size_bytes, "Bytes of the documents in the store"),
        }
        gauges: dict[str, tuple[float, str]] = {
            "under_way_records": (self.under_way, "Records read but not done yet"),
            "lag_records": (self.lag, "Records in the log that are not in the store yet"),
            "retention_used_ratio": (self.retention_use.share, "Share of the log's retention used by unread records"),
        }
        for name, (value, text) in counters.items():
            counter = CounterMetricFamily(f"borg_logshipper_{name}", text, labels=list(labels))
            counter.add_metric(list(labels.values()), value)
            yield counter
        for name, (level, text) in gauges.items():
            gauge = GaugeMetricFamily(f"borg_logshipper_{name}", text, labels=list(labels))
            gauge.add_metric(list(labels.values()), level)
            yield gauge


@dataclass(slots=True)
class Troubles:
    """The deliveries held up at present. One log event when the first begins, one when the last is over."""

    health: Health
    _held_up: dict[object, Trouble] = field(default_factory=dict)
    _logged: set[tuple[Trouble, str]] = field(default_factory=set)

    def begin(self, who: object, trouble: Trouble, reason: str) -> None:
        """Record that ``who`` is held up; a new trouble, or a new reason that needs a person, is logged."""
        self._held_up[who] = trouble
        self.health.ready = False
        if trouble is Trouble.HELD:
            self.health.faults["store"] = reason
        self._forget_fault()
        line = (trouble, reason if trouble is Trouble.HELD else "")
        if line not in self._logged:
            self._logged.add(line)
            consequence = "retried" if trouble is Trouble.BUSY else "nothing is dropped; fix it to resume"
            _log.warning(trouble.value, reason=reason, consequence=consequence)

    def end(self, who: object) -> None:
        """Record that ``who`` is held up no longer."""
        self._held_up.pop(who, None)
        self._forget_fault()
        if not self._held_up:
            self.health.ready = True
            if self._logged:
                self._logged.clear()
                _log.info("store_regained")

    def _forget_fault(self) -> None:
        if Trouble.HELD not in self._held_up.values():
            self.health.faults.pop("store", None)


def is_store_outage(error: Exception) -> bool:
    """Return whether the store may take the same documents later."""
    return isinstance(error, StoreBusyError | StoreHeldError)


class StoreOutage(Outage):
    """One delivery's outage of the store; the log events come from the ``troubles`` of all deliveries."""

    def __init__(self, troubles: Troubles) -> None:
        """Begin without an outage."""
        super().__init__()
        self._troubles = troubles

    def record(self, error: Exception, *, began_s: float | None = None, **fields: object) -> None:
        """Count a failed request."""
        super().record(error, began_s=began_s, **fields)
        self._report(error)

    def record_verdict(self, verdict: Verdict) -> None:
        """Count a request of which the store postponed documents, for example with 429; a single one is no trouble."""
        kind = StoreHeldError if verdict.outcome is Outcome.HELD else StoreBusyError
        error = kind(verdict.reason)
        super().record(error)
        if kind is StoreHeldError or self.failures > 1:
            self._report(error)

    def end(self, **fields: object) -> float:
        """End the outage, if there is one; the delivery is held up no longer."""
        outage_s = super().end(**fields)
        self._troubles.end(self)
        return outage_s

    def _report(self, error: Exception) -> None:
        trouble = Trouble.HELD if isinstance(error, StoreHeldError) else Trouble.BUSY
        self._troubles.begin(self, trouble, str(error))
