"""What a logshipper has done and what holds it up, for its reports, its metrics and its health."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum

import structlog
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from borgcore.service.health import Health

_log = structlog.get_logger()


class Trouble(Enum):
    """Why something does not go on."""

    BUSY = "store_busy"
    """The store is away or asks for patience: it will go on by itself."""
    HELD = "store_held"
    """It will not go on before a person has mended something."""


@dataclass(slots=True)
class ShippingProgress:
    """Counters since the process began."""

    shipped: int = 0
    """Documents that are in the store, those that were there already included."""
    repeated: int = 0
    """Documents that were there already."""
    dead_letters: int = 0
    """Records that went to dead_letter."""
    retried: int = 0
    """Items sent again."""
    batches: int = 0
    size_bytes: int = 0
    """Bytes of the documents in the store."""
    under_way: int = 0
    """Records read and not yet done."""
    lag: int = 0
    """Records in the log that are not yet in the store, when it was last asked."""

    def metrics(self, labels: dict[str, str]) -> Iterable[Metric]:
        """As Prometheus shows them."""
        counters = {
            "documents": (self.shipped, "Documents in the store, those that were there already included"),
            "repeated_documents": (self.repeated, "Documents that were in the store already"),
            "dead_letters": (self.dead_letters, "Records that went to dead_letter"),
            "retried_documents": (self.retried, "Documents sent again"),
            "batches": (self.batches, "Batches shipped"),
            "bytes": (self.size_bytes, "Bytes of the documents in the store"),
        }
        gauges = {
            "under_way_records": (self.under_way, "Records read and not yet done"),
            "lag_records": (self.lag, "Records in the log that are not yet in the store"),
        }
        for name, (value, text) in counters.items():
            counter = CounterMetricFamily(f"borg_logshipper_{name}", text, labels=list(labels))
            counter.add_metric(list(labels.values()), value)
            yield counter
        for name, (value, text) in gauges.items():
            gauge = GaugeMetricFamily(f"borg_logshipper_{name}", text, labels=list(labels))
            gauge.add_metric(list(labels.values()), value)
            yield gauge


@dataclass(slots=True)
class Troubles:
    """Who is held up by what; one log event when it begins, one when the last is over, none for each try."""

    health: Health
    _found: dict[object, Trouble] = field(default_factory=dict)
    _said: set[tuple[Trouble, str]] = field(default_factory=set)

    def begin(self, who: object, trouble: Trouble, reason: str) -> None:
        """Record that ``who`` cannot go on."""
        self._found[who] = trouble
        self.health.ready = False
        if trouble is Trouble.HELD:
            self.health.faults["store"] = reason
        self._forget_fault()
        said = (trouble, reason if trouble is Trouble.HELD else "")
        if said not in self._said:
            self._said.add(said)
            consequence = "it is tried again" if trouble is Trouble.BUSY else "nothing is dropped; mend it, it goes on"
            _log.warning(trouble.value, reason=reason, consequence=consequence)

    def end(self, who: object) -> None:
        """Record that it goes on."""
        self._found.pop(who, None)
        self._forget_fault()
        if not self._found:
            self.health.ready = True
            if self._said:
                self._said.clear()
                _log.info("store_regained")

    def _forget_fault(self) -> None:
        if Trouble.HELD not in self._found.values():
            self.health.faults.pop("store", None)
