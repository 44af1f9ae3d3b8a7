from collections.abc import Mapping, Sequence

import pytest

from borgcore.eventlog.metrics import publisher_metrics
from borgcore.eventlog.protocol import MakeTrimReport, Outgoing
from borgcore.eventlog.publisher import Publisher
from borgcore.events.monitoring import ShipperReported


class Nowhere:
    async def send(self, events: Sequence[Outgoing]) -> None:
        pytest.fail(f"{len(events)} events were sent, expected none")

    async def report_trimmed(self, make_report: MakeTrimReport) -> Mapping[str, int]:
        pytest.fail(f"{make_report('training_log', 1)} was reported, expected nothing")


def test_the_counters_of_a_publisher_are_shown_as_they_are_now() -> None:
    publisher = Publisher(Nowhere(), "r", "toy", size=2)
    for number in range(5):
        publisher.publish(
            ShipperReported(shipper="s", lag=number, shipped=0, repeated=0, dead_letters=0, retried=0, lost=0)
        )
    publisher.published = 7
    found = {sample.name: sample.value for metric in publisher_metrics(publisher) for sample in metric.samples}
    assert found == {"borg_events_published_total": 7, "borg_events_dropped_total": 3, "borg_events_pending": 2}
