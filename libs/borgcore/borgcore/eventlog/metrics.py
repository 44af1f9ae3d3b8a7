"""A publisher's counters as Prometheus metrics; the names are the same in every service."""

from collections.abc import Iterable

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from borgcore.eventlog.publisher import Publisher


def publisher_metrics(publisher: Publisher) -> Iterable[Metric]:
    """Yield the publisher's counters."""
    yield CounterMetricFamily("borg_events_published", "Events the log has taken.", value=publisher.published)
    yield CounterMetricFamily("borg_events_dropped", "Events that were lost.", value=publisher.dropped)
    yield GaugeMetricFamily("borg_events_pending", "Events the log has not taken yet.", value=publisher.pending)
