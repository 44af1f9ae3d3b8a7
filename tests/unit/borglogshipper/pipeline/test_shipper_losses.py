"""Records that the log deleted unread are counted, logged, published and shown."""

import pytest
from structlog.testing import capture_logs

from borgcore.eventlog.protocol import Loss, RetentionUse
from borgcore.events.monitoring import EventsDropped, ShipperReported
from borglogshipper.pipeline import shipper as module
from borglogshipper.stores.store import StoreBusyError

from .fakes import LOG, OTHER, chunk_of, event_of
from .shipping import Ship, shipping, until


async def test_a_loss_is_counted_logged_and_published_once() -> None:
    ship = Ship()
    ship.consumer.losses += [Loss(LOG, 55_000, "deleted_unread"), Loss(OTHER, 2, "topic_replaced")]
    with capture_logs() as logs:
        async with shipping(ship):
            ship.consumer.put(chunk_of(event_of(), first=55_000))
            await until(lambda: ship.consumer.commits)
            await until(lambda: len(ship.publisher.events) >= 2)
    assert ship.publisher.events == [
        EventsDropped(service="logshipper", dropped=55_000, dropped_topic="training_log", reason="deleted_unread"),
        EventsDropped(service="logshipper", dropped=2, dropped_topic="memory_monitoring", reason="topic_replaced"),
    ]
    assert (ship.progress.lost, ship.progress.shipped) == (55_002, 1)
    assert ship.progress.recent_loss == "2 records of memory_monitoring-1 are lost: topic_replaced"
    assert [(log["topic"], log["partition"], log["records"]) for log in logs if log["event"] == "records_lost"] == [
        ("training_log", 0, 55_000),
        ("memory_monitoring", 1, 2),
    ]


async def test_reports_carry_losses_and_how_near_the_next_one_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REPORT_PERIOD_S", 0.01)
    ship = Ship()
    ship.consumer.use = RetentionUse(0.8, "old")
    async with shipping(ship):
        await until(lambda: ship.progress.danger)
        ship.consumer.losses.append(Loss(LOG, 3, "deleted_unread"))
        ship.consumer.use = RetentionUse(0.1, "young")
        await until(lambda: not ship.progress.danger)
        seen = len(ship.publisher.events)
        await until(lambda: len(ship.publisher.events) > seen + 1)
    report = ship.publisher.events[-1]
    assert isinstance(report, ShipperReported)
    assert report.lost == 3


async def test_losses_are_noticed_while_the_store_cannot_be_prepared() -> None:
    ship = Ship()
    ship.store.prepare_errors += [StoreBusyError("away")] * 100_000
    ship.consumer.losses.append(Loss(LOG, 3, "deleted_unread"))
    async with shipping(ship):
        await until(lambda: ship.progress.lost == 3)
