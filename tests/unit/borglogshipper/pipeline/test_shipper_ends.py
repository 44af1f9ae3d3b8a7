"""A shipper that loses partitions, or whose log is down."""

import random

import anyio
import orjson
import pytest
from structlog.testing import capture_logs

from borgcore.errors import EventLogError
from borglogshipper.pipeline import shipper as module
from borglogshipper.stores.store import StoreBusyError
from tests.limits import HANG_S

from .fakes import BUSY, LOG, OTHER, REFUSED, chunk_of, event_of
from .shipping import LONG_S, Ship, shipping, until


async def test_partitions_that_are_taken_away_are_finished_committed_and_forgotten() -> None:
    ship = Ship(linger_s=LONG_S, commit_period_s=LONG_S)
    gate = ship.store.gate(b"slow")
    done = anyio.Event()

    async def revoke() -> None:
        await ship.shipper.revoked([LOG])
        done.set()

    async with shipping(ship), anyio.create_task_group() as group:
        ship.consumer.put(chunk_of(event_of(slow=1), b"poison"))
        await until(lambda: ship.shipper._offsets.unfinished() == 2)
        group.start_soon(revoke)
        await until(lambda: ship.consumer.dead_letters)
        assert not done.is_set()
        gate.set()
        await done.wait()
        assert ship.consumer.commits == [{LOG: 1}]
        assert len(ship.store.kept) == 1
        ship.consumer.put(chunk_of(event_of(), first=0))  # ours again, from where another committed
        await until(lambda: ship.shipper._offsets.unfinished() == 1)
    assert ship.consumer.commits == [{LOG: 1}, {LOG: 0}]


async def test_a_revocation_waits_for_its_own_partitions_alone() -> None:
    ship = Ship(grace_s=10 * HANG_S, records=1, commit_period_s=LONG_S)
    gate = ship.store.gate(b"slow")
    async with shipping(ship):
        ship.consumer.put(chunk_of(event_of(slow=1), partition=OTHER), chunk_of(event_of()))
        await until(lambda: ship.store.kept)
        assert ship.shipper._offsets.unfinished([OTHER]) == 1
        with anyio.fail_after(HANG_S):  # less than the time it has
            await ship.shipper.revoked([LOG])
        assert ship.consumer.commits == [{LOG: 0}]
        gate.set()
    assert ship.consumer.commits == [{LOG: 0}, {OTHER: 0}]


async def test_what_is_not_done_in_time_is_left_to_the_next_owner() -> None:
    ship = Ship(grace_s=0.1)
    gate = ship.store.gate(b"slow")
    async with shipping(ship):
        ship.consumer.put(chunk_of(event_of(slow=1)))
        await until(lambda: ship.shipper._under_way == 1)
        with capture_logs() as logs:
            await ship.shipper.revoked([LOG])
        assert [entry["event"] for entry in logs] == ["records_left"]
        assert ship.shipper._offsets.unfinished() == 0
        gate.set()
        await until(lambda: ship.shipper._under_way == 0)
    assert ship.consumer.commits == []
    assert len(ship.store.kept) == 1


async def test_a_revocation_before_anything_was_read_is_over_at_once() -> None:
    ship = Ship(grace_s=10 * HANG_S)
    with anyio.fail_after(HANG_S):
        await ship.shipper.revoked([LOG])
    assert ship.consumer.commits == []


async def test_reading_goes_on_after_a_revocation_took_the_batches_that_waited_for_a_slot(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "KEEP_S", 0.005)
    ship = Ship(records=1, in_flight=1)
    gate = ship.store.gate(b"slow")
    async with shipping(ship), anyio.create_task_group() as group:
        ship.consumer.put(*[chunk_of(event_of(slow=1), first=row) for row in range(2)])
        await until(lambda: ship.consumer.fetched_while_paused)
        group.start_soon(ship.shipper.revoked, [LOG])
        await until(lambda: ship.shipper._under_way == 2)
        gate.set()
        ship.consumer.put(*[chunk_of(event_of(), partition=OTHER, first=row) for row in range(5)])
        await until(lambda: ship.consumer.committed == {LOG: 1, OTHER: 4})
    assert len(ship.store.kept) == 7
    assert ship.shipper._under_way == 0


async def test_without_a_place_for_dead_letters_it_ends_and_commits_nothing_behind_them() -> None:
    ship = Ship(records=2, in_flight=2)
    ship.store.gate(b"slow")
    ship.consumer.dead_letter_errors += [EventLogError("dead_letter is away")] * 1_000
    with pytest.RaisesGroup(pytest.RaisesExc(EventLogError, match="dead_letter is away"), flatten_subgroups=True):
        async with shipping(ship):
            ship.consumer.put(chunk_of(event_of(), event_of(), event_of(slow=1), event_of(), b"poison", event_of()))
            await ship.ended.wait()
    assert ship.consumer.committed.get(LOG, -1) in {-1, 1}
    assert ship.consumer.dead_letters == []


async def test_a_log_that_is_away_for_too_long_ends_it() -> None:
    ship = Ship()
    ship.consumer.fetch_errors.append(EventLogError("the log is away"))
    with pytest.RaisesGroup(pytest.RaisesExc(EventLogError, match="the log is away"), flatten_subgroups=True):
        async with shipping(ship):
            await ship.ended.wait()


@pytest.mark.parametrize("seed", range(5))
async def test_whatever_the_store_answers_every_record_ends_once_in_the_store_or_in_dead_letter(seed: int) -> None:
    draw = random.Random(seed)
    ship = Ship(records=7, size_bytes=900, in_flight=3)
    for _ in range(150):
        kind = draw.randrange(4)
        verdicts = {row: draw.choice([BUSY, REFUSED]) for row in range(7) if draw.random() < 0.3}
        ship.store.answers.append(StoreBusyError("away") if kind == 0 else verdicts if kind == 1 else {})
    kinds = (event_of, lambda: b'{"a":%d}' % draw.randrange(3), lambda: b"poison", lambda: None)
    values = [draw.choices(kinds, weights=(6, 2, 1, 1))[0]() for _ in range(300)]
    revocations = 0
    async with shipping(ship):
        for first in range(0, 300, 10):
            ship.consumer.put(chunk_of(*values[first : first + 10], first=first))
            if draw.random() < 0.2:
                await ship.shipper.revoked([OTHER])
                revocations += 1
        await until(lambda: ship.consumer.committed.get(LOG) == 299)
    assert revocations
    letters = [orjson.loads(letter)["position"] for letter in ship.consumer.dead_letters]
    assert len(set(letters)) == len(letters)
    assert len(ship.store.kept) + len(letters) == 300
    stored_ids = {event_id for _, event_id in ship.store.kept}
    for position, value in enumerate(values):
        event_id = orjson.loads(value).get("event_id") if value and value != b"poison" else None
        is_stored = (event_id or f"training_log-0-{position}") in stored_ids
        assert is_stored != (position in letters)
    assert ship.progress.shipped == len(ship.store.kept)
    assert ship.progress.dead_letters == len(letters)
