"""What a publisher says of itself at ``/metrics``; the same names in every service."""

from collections.abc import Iterable

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from borgcore.eventlog.publisher import Publisher


def publisher_metrics(publisher: Publisher) -> Iterable[Metric]:
    """Read the publisher's counters, as they are now."""
    yield CounterMetricFamily("borg_events_published", "Events the log has taken.", value=publisher.published)
    yield CounterMetricFamily("borg_events_dropped", "Events that were lost.", value=publisher.dropped)
    yield GaugeMetricFamily("borg_events_pending", "Events the log has not taken yet.", value=publisher.pending)
