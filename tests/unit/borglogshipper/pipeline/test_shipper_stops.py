"""A shipper that is stopped, with store and log up or down."""

import time
from collections.abc import Mapping

import anyio
import pytest
from structlog.testing import capture_logs

from borgcore.eventlog.protocol import Partition, Position
from borglogshipper.pipeline import shipper as module
from borglogshipper.stores.store import StoreBusyError, StoreHeldError

from .fakes import BUSY, LOG, OTHER, chunk_of, event_of
from .shipping import LONG_S, Ship, shipping, until


async def test_what_was_read_is_finished_and_committed_after_the_intake_is_cancelled() -> None:
    ship = Ship(records=10, linger_s=LONG_S, commit_period_s=LONG_S)
    values = [event_of(row=row) for row in range(13)]
    gate = ship.store.gate(b'"row":3')
    async with shipping(ship):
        ship.consumer.put(chunk_of(*values))
        await until(lambda: ship.shipper._offsets.unfinished() == 13)
        ship.intake.cancel()
        await until(lambda: len(ship.store.kept) == 3)
        assert ship.consumer.commits == []
        gate.set()
    assert sorted(ship.store.bodies()) == sorted(values)
    assert ship.consumer.commits == [{LOG: 12}]


async def test_a_drain_goes_on_in_the_middle_of_retries() -> None:
    ship = Ship(commit_period_s=LONG_S)
    ship.store.answers += [StoreBusyError("away"), {0: BUSY}, {0: BUSY}]
    async with shipping(ship):
        ship.consumer.put(chunk_of(event_of(), event_of()))
        await until(lambda: ship.store.written)
    assert len(ship.store.kept) == 2
    assert ship.consumer.commits == [{LOG: 1}]


@pytest.mark.parametrize("error", [None, StoreBusyError("away"), StoreHeldError("401")])
async def test_a_drain_ends_within_the_grace_though_the_store_does_not_answer(error: Exception | None) -> None:
    ship = Ship(records=2, grace_s=0.2)
    ship.store.gate(b"stuck")
    with capture_logs() as logs:
        async with shipping(ship):
            ship.consumer.put(chunk_of(event_of(), event_of(), event_of(stuck=1)))
            await until(lambda: ship.shipper._offsets.unfinished() == 1)
            if error is not None:
                ship.store.gates.clear()
                ship.store.answers += [error] * 10_000
                ship.consumer.put(chunk_of(event_of(), first=3))
                await until(lambda: ship.shipper._offsets.unfinished() == 2)
            began_s = time.monotonic()
        took_s = time.monotonic() - began_s
    assert took_s > 0.1  # the drain's share of the grace period; the errors alone would outlast the test
    assert ship.consumer.committed == {LOG: 1}
    assert ship.consumer.dead_letters == []
    events = [entry["event"] for entry in logs]
    assert "records_left" in events
    assert "store_regained" not in events


@pytest.mark.parametrize("commit_period_s", [0.01, LONG_S])
async def test_a_stop_ends_within_the_grace_though_the_log_takes_no_commit(
    monkeypatch: pytest.MonkeyPatch, commit_period_s: float
) -> None:
    ship = Ship(grace_s=20.0, commit_period_s=commit_period_s)
    tried = 0

    async def commit(_upto: object) -> None:
        nonlocal tried
        tried += 1
        await anyio.sleep_forever()

    monkeypatch.setattr(ship.consumer, "commit", commit)
    with capture_logs() as logs:
        async with shipping(ship):
            ship.consumer.put(chunk_of(event_of()), chunk_of(event_of(), partition=OTHER))
            await until(lambda: len(ship.store.kept) == 2)
            await until(lambda: tried or commit_period_s == LONG_S)
            began_s = time.monotonic()
        took_s = time.monotonic() - began_s
    assert took_s < ship.settings.grace_s
    assert tried == (1 if commit_period_s == LONG_S else 2)
    assert [entry["partitions"] for entry in logs if entry["event"] == "positions_left"] == [2]


async def test_what_is_stored_while_an_earlier_commit_hangs_is_committed_at_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ship = Ship(records=1)
    commit, hanging = ship.consumer.commit, anyio.Event()

    async def hang_once(upto: Mapping[Partition, Position]) -> None:
        if not hanging.is_set():
            hanging.set()
            await anyio.sleep_forever()
        await commit(upto)

    monkeypatch.setattr(ship.consumer, "commit", hang_once)
    with capture_logs() as logs:
        async with shipping(ship):
            ship.consumer.put(chunk_of(event_of()))
            await hanging.wait()
            ship.consumer.put(chunk_of(event_of(), first=1))
            await until(lambda: len(ship.store.kept) == 2)
    assert ship.consumer.commits == [{LOG: 1}]
    assert "positions_left" not in [entry["event"] for entry in logs]


async def test_nothing_is_reported_while_what_was_read_drains(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REPORT_PERIOD_S", 0.005)
    ship = Ship()
    gate = ship.store.gate(b"slow")
    async with shipping(ship):
        ship.consumer.put(chunk_of(event_of(slow=1)))
        await until(lambda: ship.shipper._under_way == 1 and ship.publisher.events)
        ship.intake.cancel()
        await anyio.wait_all_tasks_blocked()
        ship.publisher.arrived = anyio.Event()
        with anyio.move_on_after(0.05) as waiting:
            await ship.publisher.arrived.wait()
        assert waiting.cancelled_caught
        gate.set()


async def test_a_stop_before_the_store_is_up_takes_effect_at_once() -> None:
    ship = Ship(grace_s=10 * LONG_S)
    ship.store.prepare_errors += [StoreBusyError("away")] * 100_000
    ship.consumer.put(chunk_of(event_of(), event_of()))
    async with shipping(ship):
        await until(lambda: len(ship.store.asked) > 3 and not ship.consumer.chunks)
    assert ship.store.written == []
    assert ship.consumer.commits == []
