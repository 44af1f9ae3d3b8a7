"""Reading, gathering, batches in flight, commits and reports of a shipper that is not disturbed."""

import orjson
import pytest
from structlog.testing import capture_logs

from borgcore.errors import EventLogError
from borgcore.events.monitoring import ShipperReported
from borglogshipper.pipeline import shipper as module
from borglogshipper.stores.store import StoreBusyError, StoreHeldError

from .fakes import BUSY, LOG, OTHER, REFUSED, chunk_of, event_of
from .shipping import LONG_S, Ship, shipping, until


async def test_what_is_read_is_stored_and_committed() -> None:
    ship = Ship()
    logs, others = [event_of(row=row) for row in range(3)], [event_of(row=row) for row in range(2)]
    async with shipping(ship):
        ship.consumer.put(chunk_of(*logs), chunk_of(*others, partition=OTHER, first=7))
        await until(lambda: ship.consumer.committed == {LOG: 2, OTHER: 8})
    assert sorted(ship.store.bodies()) == sorted(logs + others)
    assert ship.health.ready


async def test_the_store_is_prepared_before_the_first_document() -> None:
    ship = Ship()
    ship.store.prepare_errors += [StoreBusyError("away"), StoreHeldError("401")]
    ship.consumer.put(chunk_of(event_of()))
    async with shipping(ship):
        await until(lambda: ship.consumer.commits)
    assert ship.store.asked == ["prepare"] * 3 + ["write"]


async def test_a_batch_that_is_not_full_waits_for_more_records() -> None:
    ship = Ship(records=4, linger_s=LONG_S)
    async with shipping(ship):
        ship.consumer.put(chunk_of(event_of(), event_of()))
        await until(lambda: not ship.consumer.chunks)
        assert ship.store.written == []
        ship.consumer.put(chunk_of(event_of(), event_of(), first=2))
        await until(lambda: ship.consumer.committed == {LOG: 3})
        assert [len(ids) for ids in ship.store.written] == [4]


async def test_the_time_that_a_batch_waits_begins_with_its_first_record() -> None:
    ship = Ship(records=2, linger_s=LONG_S)
    async with shipping(ship):
        ship.shipper._gathered.began_s -= 2 * LONG_S  # as if it had been created long ago
        ship.consumer.put(chunk_of(event_of()))
        await until(lambda: not ship.consumer.chunks)
        ship.consumer.put(chunk_of(event_of(), first=1))
        await until(lambda: ship.consumer.committed == {LOG: 1})
        assert [len(ids) for ids in ship.store.written] == [2]


async def test_a_batch_that_is_not_full_leaves_when_its_time_is_over() -> None:
    ship = Ship(records=1_000, linger_s=0.02)
    async with shipping(ship):
        ship.consumer.put(chunk_of(event_of()))
        await until(lambda: ship.consumer.committed == {LOG: 0})
        ship.consumer.put(chunk_of(b"poison", first=1))
        await until(lambda: ship.consumer.committed == {LOG: 1})
    assert len(ship.consumer.dead_letters) == 1


async def test_no_request_has_more_records_than_allowed() -> None:
    ship = Ship(records=10, in_flight=1)
    async with shipping(ship):
        ship.consumer.put(chunk_of(*[event_of() for _ in range(35)]))
        await until(lambda: ship.consumer.committed == {LOG: 34})
    assert [len(ids) for ids in ship.store.written] == [10, 10, 10, 5]


@pytest.mark.parametrize("giant", [500, 2_500])
async def test_a_chunk_of_many_bytes_is_cut(giant: int) -> None:
    ship = Ship(size_bytes=1_000, in_flight=1)
    values = [event_of(text="." * (giant if row % 7 == 3 else 20)) for row in range(50)]
    async with shipping(ship):
        ship.consumer.put(chunk_of(*values))
        await until(lambda: ship.consumer.committed == {LOG: 49})
    sizes = {orjson.loads(value)["event_id"]: len(value) for value in values}
    assert len(ship.store.written) > 5
    assert all(sum(sizes[event_id] for event_id in ids[:-1]) < 1_000 for ids in ship.store.written)
    assert len(ship.store.kept) + len(ship.consumer.dead_letters) == 50
    assert len(ship.consumer.dead_letters) == (7 if giant == 2_500 else 0)


async def test_no_more_batches_than_allowed_are_under_way_and_reading_pauses_without_leaving_the_group(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "KEEP_S", 0.005)
    ship = Ship(records=2, in_flight=3)
    gate = ship.store.gate(b"held")
    values = [event_of(held=row) for row in range(20)]
    async with shipping(ship):
        ship.consumer.put(chunk_of(*values))
        await until(lambda: ship.consumer.fetched_while_paused >= 3)
        assert ship.consumer.paused
        assert ship.consumer.pauses == 1
        assert ship.shipper._under_way == 3
        assert ship.consumer.chunks
        gate.set()
        await until(lambda: ship.consumer.committed == {LOG: 19})
        assert not ship.consumer.paused
    assert sorted(ship.store.bodies()) == sorted(values)
    assert 1 < ship.store.most_under_way <= 3


async def test_a_batch_that_ends_lets_the_next_one_leave_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEEP_S", LONG_S)
    ship = Ship(records=1, in_flight=2)
    async with shipping(ship):
        ship.consumer.put(*[chunk_of(event_of(), first=row) for row in range(200)])
        await until(lambda: ship.consumer.committed == {LOG: 199})
    assert ship.consumer.pauses == 0
    assert ship.store.most_under_way <= 2


async def test_a_position_is_committed_once_everything_before_it_is_done() -> None:
    ship = Ship(records=2, commit_period_s=LONG_S)
    gate = ship.store.gate(b"slow")
    async with shipping(ship):
        ship.consumer.put(chunk_of(event_of(slow=1), event_of(), event_of(), event_of()))
        ship.consumer.put(chunk_of(event_of(), event_of(), partition=OTHER))
        await until(lambda: len(ship.store.kept) == 4)
        await ship.shipper._commit()
        assert ship.consumer.commits == [{OTHER: 1}]
        gate.set()
        await until(lambda: len(ship.store.kept) == 6)
        await until(lambda: not ship.shipper._offsets.unfinished())
        await ship.shipper._commit()
        assert ship.consumer.commits == [{OTHER: 1}, {LOG: 3}]


async def test_reading_stops_where_too_much_waits_behind_one_record_that_is_held(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "KEEP_S", 0.005)
    monkeypatch.setattr(module, "MAX_AHEAD", 50)
    ship = Ship(records=10, in_flight=3)
    gate = ship.store.gate(b"held")
    async with shipping(ship):
        ship.consumer.put(chunk_of(event_of(held=1)))
        ship.consumer.put(*[chunk_of(*[event_of() for _ in range(10)], first=1 + 10 * row) for row in range(20)])
        await until(lambda: ship.consumer.fetched_while_paused >= 3)
        assert ship.consumer.chunks
        assert 40 <= len(ship.store.kept) <= 70
        gate.set()
        await until(lambda: ship.consumer.committed == {LOG: 200})
    assert len(ship.store.kept) == 201


@pytest.mark.parametrize("size_bytes", [1_000, 1_000_000])
async def test_more_records_than_may_wait_behind_one_are_shipped_where_they_are_read_in_one_go(
    monkeypatch: pytest.MonkeyPatch, size_bytes: int
) -> None:
    monkeypatch.setattr(module, "MAX_AHEAD", 50)
    ship = Ship(records=200, size_bytes=size_bytes)
    async with shipping(ship):
        ship.consumer.put(chunk_of(*[event_of() for _ in range(150)]))
        await until(lambda: ship.consumer.committed == {LOG: 149})
    assert len(ship.store.kept) == 150


async def test_nothing_is_committed_twice() -> None:
    ship = Ship()
    async with shipping(ship):
        ship.consumer.put(chunk_of(event_of()))
        await until(lambda: ship.consumer.commits)
        await ship.shipper._commit()
    assert ship.consumer.commits == [{LOG: 0}]


async def test_a_commit_that_failed_is_retried_and_logged_once() -> None:
    ship = Ship()
    ship.consumer.commit_errors += [EventLogError("no answer")] * 3
    with capture_logs() as logs:
        async with shipping(ship):
            ship.consumer.put(chunk_of(event_of()))
            await until(lambda: ship.consumer.committed == {LOG: 0})
    assert [entry["reason"] for entry in logs if entry["event"] == "commit_failed"] == ["no answer"]


async def test_records_under_way_are_counted() -> None:
    ship = Ship(records=2)
    gate = ship.store.gate(b"slow")
    async with shipping(ship):
        ship.consumer.put(chunk_of(event_of(slow=1), event_of(slow=1), event_of(slow=1)))
        await until(lambda: ship.progress.under_way == 3)
        gate.set()
        await until(lambda: ship.progress.under_way == 0)


async def test_reports_count_the_records(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REPORT_PERIOD_S", 0.01)
    ship = Ship()
    value = event_of()
    ship.store.answers += [{0: BUSY, 2: REFUSED}]
    async with shipping(ship):
        ship.consumer.put(chunk_of(value, b"poison", value, event_of()))
        await until(lambda: ship.consumer.commits)
        seen = len(ship.publisher.events)
        await until(lambda: len(ship.publisher.events) > seen + 1)
    assert ship.publisher.events[-1] == ShipperReported(
        shipper="host-1", lag=0, shipped=2, repeated=1, dead_letters=2, retried=1, lost=0
    )


async def test_a_log_that_reports_no_lag_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REPORT_PERIOD_S", 0.005)
    ship = Ship()
    errors = [EventLogError("away")] * 3

    async def lag() -> int:
        if errors:
            raise errors.pop()
        return 5

    monkeypatch.setattr(ship.consumer, "lag", lag)
    async with shipping(ship):
        await ship.publisher.arrived.wait()
    assert errors == []
    [report, *_] = ship.publisher.events
    assert isinstance(report, ShipperReported)
    assert report.lag == ship.progress.lag == 5
