"""The newest samples as Prometheus metrics, under the names of the event's fields."""

from collections.abc import Collection, Iterable
from typing import get_args

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from borgcore.events.monitoring import MemorySampled
from borgmonitor.conditions import Kind

_FIELDS = [name for name, field in MemorySampled.model_fields.items() if field.annotation is not str]


def sample_metrics(
    run: str, samples: Collection[MemorySampled], active: Collection[tuple[str, Kind]]
) -> Iterable[Metric]:
    """Yield each number as a gauge, or as a counter if its name ends in _total, and 1 for each active warning."""
    for name in _FIELDS:
        family = (CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily)(
            name, MemorySampled.help_text(name), labels=["node", "run"]
        )
        for sample in samples:
            value = getattr(sample, name)
            if value is not None:
                family.add_metric([sample.node, run], value)
        yield family
    on = GaugeMetricFamily("borg_memory_warning", "1 while the warning is on.", labels=["node", "run", "kind"])
    for sample in samples:
        for kind in get_args(Kind):
            on.add_metric([sample.node, run, kind], float((sample.node, kind) in active))
    yield on
