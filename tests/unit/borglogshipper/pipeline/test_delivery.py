"""What becomes of each document of a batch, whatever the store says of it."""

import anyio
import orjson
import pytest
from structlog.testing import capture_logs

from borgcore.service.health import Health
from borglogshipper.pipeline.delivery import Delivery
from borglogshipper.pipeline.progress import ShippingProgress
from borglogshipper.settings import RetrySettings
from borglogshipper.stores.store import Outcome, StoreBusyError, StoreHeldError, Verdict
from tests.limits import HANG_S

from .fakes import BUSY, HELD, REFUSED, FakeConsumer, FakeStore, batch_of, event_of

pytestmark = pytest.mark.usefixtures("waits")
INDEX = "training_log-2026.11"


async def deliver(delivery: Delivery, *values: bytes | None, first: int = 0) -> None:
    with anyio.fail_after(HANG_S):
        await delivery.deliver(batch_of(*values, first=first))


def letters_of(consumer: FakeConsumer) -> dict[int, str]:
    found = [orjson.loads(letter) for letter in consumer.dead_letters]
    return {letter["position"]: letter["reason"] for letter in found}


async def test_documents_that_are_new_are_stored_in_one_request(
    delivery: Delivery, store: FakeStore, progress: ShippingProgress, waits: list[float]
) -> None:
    values = [event_of(), event_of(), b'{"a":1}']
    await deliver(delivery, *values)
    assert store.asked == ["write"]
    assert store.bodies()[:2] == values[:2]
    size_bytes = sum(map(len, store.bodies()))
    assert progress == ShippingProgress(shipped=3, batches=1, size_bytes=size_bytes)
    assert waits == []


async def test_an_event_that_is_there_already_is_done(
    delivery: Delivery, store: FakeStore, progress: ShippingProgress
) -> None:
    values = [event_of(), event_of(), event_of()]
    await deliver(delivery, *values[:2])
    await deliver(delivery, *values)
    assert store.asked == ["write", "write", "read"]
    assert store.bodies() == values
    assert progress == ShippingProgress(
        shipped=5, repeated=2, batches=2, size_bytes=sum(map(len, values[:2])) + sum(map(len, values))
    )


async def test_only_what_the_store_had_no_time_for_is_sent_again(
    delivery: Delivery, store: FakeStore, progress: ShippingProgress, waits: list[float]
) -> None:
    values = [event_of() for _ in range(4)]
    ids = [orjson.loads(value)["event_id"] for value in values]
    store.answers += [{1: BUSY, 3: BUSY}, {0: BUSY}, {0: BUSY}]
    await deliver(delivery, *values)
    assert store.written == [ids, [ids[1], ids[3]], [ids[1]], [ids[1]]]
    assert store.asked == ["write"] + 3 * ["prepare", "write"]
    assert progress == ShippingProgress(shipped=4, retried=4, batches=1, size_bytes=sum(map(len, values)))
    assert len(waits) == 3


async def test_waits_grow_jittered_up_to_their_limit(delivery: Delivery, store: FakeStore, waits: list[float]) -> None:
    store.answers += [StoreBusyError("away")] * 40
    await deliver(delivery, event_of())
    retry = RetrySettings()
    longest = [min(retry.first_s * 2**failures, retry.limit_s) for failures in range(40)]
    assert all(0.5 * limit_s <= wait_s <= limit_s for wait_s, limit_s in zip(waits, longest, strict=True))
    assert len(set(waits[10:])) > 1


async def test_a_store_that_is_away_gets_the_whole_batch_again_and_is_prepared_before(
    delivery: Delivery, store: FakeStore, consumer: FakeConsumer, progress: ShippingProgress
) -> None:
    values = [event_of(), event_of()]
    store.answers += [StoreBusyError("away"), StoreBusyError("away")]
    await deliver(delivery, b"poison", *values)
    assert store.asked == ["write", "prepare", "write", "prepare", "write"]
    assert store.bodies() == values
    assert len(consumer.dead_letters) == 1
    assert progress == ShippingProgress(
        shipped=2, retried=4, dead_letters=1, batches=1, size_bytes=sum(map(len, values))
    )


async def test_a_reply_lost_after_the_store_had_written_doubles_nothing(
    delivery: Delivery, store: FakeStore, progress: ShippingProgress
) -> None:
    value, foreign = event_of(), b'{"a":1}'
    await deliver(delivery, value, foreign)
    store.answers.append(StoreBusyError("no answer"))
    await deliver(delivery, value, foreign)
    assert len(store.kept) == 2
    assert (progress.shipped, progress.repeated, progress.retried) == (4, 2, 2)


async def test_nothing_counts_as_sent_again_while_the_store_cannot_be_prepared(
    delivery: Delivery, store: FakeStore, progress: ShippingProgress
) -> None:
    store.answers.append(StoreBusyError("away"))
    store.prepare_errors += [StoreBusyError("away"), StoreHeldError("401"), StoreBusyError("away")]
    await deliver(delivery, event_of(), event_of())
    assert store.asked == ["write", *["prepare"] * 4, "write"]
    assert (progress.retried, progress.shipped) == (2, 2)


async def test_each_of_a_mixed_answer_ends_where_it_belongs(
    delivery: Delivery, store: FakeStore, consumer: FakeConsumer, progress: ShippingProgress
) -> None:
    values = [event_of(row=row) for row in range(5)]
    store.kept[INDEX, orjson.loads(values[3])["event_id"]] = values[3]
    store.answers += [{1: BUSY, 2: REFUSED}, {0: REFUSED}]
    await deliver(delivery, *values)
    assert letters_of(consumer) == {1: REFUSED.reason, 2: REFUSED.reason}
    assert store.bodies() == [values[3], values[0], values[4]]
    done = [values[row] for row in (0, 3, 4)]
    assert progress == ShippingProgress(
        shipped=3, repeated=1, dead_letters=2, retried=1, batches=1, size_bytes=sum(map(len, done))
    )


async def test_a_held_store_is_a_fault_that_names_the_index_until_it_is_mended(
    delivery: Delivery, store: FakeStore, consumer: FakeConsumer, health: Health, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = [event_of(), event_of()]
    store.answers += [{0: HELD}] * 20
    seen = []

    async def look(delay_s: float) -> None:
        assert delay_s > 0.0
        seen.append((health.ready, dict(health.faults)))

    monkeypatch.setattr("borglogshipper.pipeline.delivery.anyio.sleep", look)
    with capture_logs() as logs:
        await deliver(delivery, *values)
    assert seen == [(False, {"store": "training_log-2026.11 is read-only"})] * 20
    assert (health.ready, health.faults) == (True, {})
    assert sorted(store.bodies()) == sorted(values)
    assert consumer.dead_letters == []
    assert [said["event"] for said in logs] == ["store_held", "store_regained"]


async def test_one_document_that_needs_a_person_is_logged_beside_many_that_only_wait(
    delivery: Delivery, store: FakeStore
) -> None:
    store.answers.append({0: BUSY, 1: HELD, 2: BUSY})
    with capture_logs() as logs:
        await deliver(delivery, event_of(), event_of(), event_of())
    assert [said["event"] for said in logs] == ["store_held", "store_regained"]


async def test_a_trouble_does_not_count_as_over_where_a_delivery_is_cut_off(
    delivery: Delivery, store: FakeStore, health: Health, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.answers.append(StoreHeldError("401"))
    waiting = anyio.Event()

    async def wait(_delay_s: float) -> None:
        waiting.set()
        await anyio.sleep_forever()

    monkeypatch.setattr("borglogshipper.pipeline.delivery.anyio.sleep", wait)
    with anyio.fail_after(HANG_S), capture_logs() as logs:
        async with anyio.create_task_group() as group:
            group.start_soon(delivery.deliver, batch_of(event_of()))
            await waiting.wait()
            group.cancel_scope.cancel()
    assert [said["event"] for said in logs] == ["store_held"]
    assert not health.ready


async def test_prepare_waits_until_the_store_is_there(
    delivery: Delivery, store: FakeStore, health: Health, waits: list[float]
) -> None:
    store.prepare_errors += [StoreBusyError("away"), StoreHeldError("401"), StoreBusyError("away")]
    with capture_logs() as logs, anyio.fail_after(HANG_S):
        await delivery.prepare()
    assert len(waits) == 3
    assert (health.ready, health.faults) == (True, {})
    assert [said["event"] for said in logs] == ["store_busy", "store_held", "store_regained"]


async def test_a_single_429_is_sent_again_silently_and_a_second_is_logged(delivery: Delivery, store: FakeStore) -> None:
    with capture_logs() as logs, anyio.fail_after(HANG_S):
        store.answers += [{0: BUSY}]
        await delivery.deliver(batch_of(event_of()))
        assert logs == []
        store.answers += [{0: BUSY}, {0: BUSY}]
        await delivery.deliver(batch_of(event_of()))
    assert [said["event"] for said in logs] == ["store_busy", "store_regained"]


async def test_a_verdict_without_a_reason_is_waited_for_as_well(
    delivery: Delivery, store: FakeStore, waits: list[float]
) -> None:
    store.answers.append({0: Verdict(Outcome.BUSY)})
    await deliver(delivery, event_of())
    assert len(waits) == 1
