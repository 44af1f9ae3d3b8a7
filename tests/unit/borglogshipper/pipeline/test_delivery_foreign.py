"""Documents without an event_id, whose ids may be another's: a topic that is made anew counts from the start."""

import anyio
import orjson
import pytest
from structlog.testing import capture_logs

from borgcore.service.health import Health
from borglogshipper.pipeline.delivery import Delivery
from borglogshipper.pipeline.progress import ShippingProgress
from borglogshipper.stores.store import StoreBusyError, StoreHeldError
from tests.limits import HANG_S

from .fakes import BUSY, PRESENT, FakeConsumer, FakeStore, batch_of, event_of

pytestmark = pytest.mark.usefixtures("waits")


async def deliver(delivery: Delivery, *values: bytes) -> None:
    with anyio.fail_after(HANG_S):
        await delivery.deliver(batch_of(*values))


def numbers(store: FakeStore) -> list[int]:
    return sorted(orjson.loads(body)["a"] for body in store.bodies())


async def test_one_that_is_there_already_is_done(
    delivery: Delivery, store: FakeStore, progress: ShippingProgress, waits: list[float]
) -> None:
    for raw in (b'{"a":1}', b'{ "a": 1 }'):
        await deliver(delivery, raw)
    assert numbers(store) == [1]
    assert (progress.shipped, progress.repeated, progress.retried) == (2, 1, 0)
    assert waits == []


async def test_another_under_the_same_id_gets_one_of_its_own_and_none_is_lost_or_doubled(
    delivery: Delivery, store: FakeStore, progress: ShippingProgress, waits: list[float]
) -> None:
    for raw in (b'{"a":1}', b'{"a":2}', b'{"a":3}', b'{"a":2}', b'{"a":1}', b'{"a":3}'):
        await deliver(delivery, raw)
    assert numbers(store) == [1, 2, 3]
    assert (progress.shipped, progress.repeated, progress.batches) == (6, 3, 6)
    assert waits == []


async def test_one_whose_twin_vanished_is_sent_again_after_a_wait(
    delivery: Delivery, store: FakeStore, progress: ShippingProgress, waits: list[float]
) -> None:
    store.answers.append({0: PRESENT})
    await deliver(delivery, b'{"a":1}')
    assert store.asked == ["write", "read", "prepare", "write"]
    assert numbers(store) == [1]
    assert (progress.shipped, progress.repeated, progress.retried) == (1, 0, 1)
    assert len(waits) == 1


async def test_a_twin_that_is_never_shown_is_no_busy_loop(
    delivery: Delivery, store: FakeStore, consumer: FakeConsumer, health: Health, waits: list[float]
) -> None:
    await deliver(delivery, b'{"a":1}')
    store.blind = True
    with anyio.fail_after(HANG_S), capture_logs() as logs:
        async with anyio.create_task_group() as endless:
            endless.start_soon(delivery.deliver, batch_of(b'{"a":1}'))
            while store.asked.count("read") < 10:
                await anyio.lowlevel.checkpoint()
            endless.cancel_scope.cancel()
    assert 1 < store.asked.count("read") <= len(waits) + 1
    assert [said["event"] for said in logs] == ["store_busy"]
    assert not health.ready
    assert consumer.dead_letters == []


@pytest.mark.parametrize(
    ("error", "said"), [(StoreBusyError("429"), "store_busy"), (StoreHeldError("403"), "store_held")]
)
async def test_a_store_that_does_not_let_us_look_is_waited_for(
    delivery: Delivery, store: FakeStore, waits: list[float], error: Exception, said: str
) -> None:
    await deliver(delivery, b'{"a":1}')
    store.read_errors += [error] * 3
    with capture_logs() as logs:
        await deliver(delivery, b'{"a":2}')
    assert numbers(store) == [1, 2]
    assert len(waits) == 3
    assert [one["event"] for one in logs] == [said, "store_regained"]


async def test_a_store_that_gives_documents_back_changed_is_no_endless_loop(
    delivery: Delivery, store: FakeStore, progress: ShippingProgress
) -> None:
    await deliver(delivery, b'{"a":1}')
    for key, body in store.kept.items():
        store.kept[key] = body.replace(b"1}", b"1.5}")
    await deliver(delivery, b'{"a":1}')
    for key, body in store.kept.items():
        store.kept[key] = body.replace(b"1}", b"1.5}")
    await deliver(delivery, b'{"a":1}')
    assert len(store.kept) == 2
    assert (progress.shipped, progress.repeated) == (3, 1)


async def test_what_waits_and_what_is_renamed_go_together(
    delivery: Delivery, store: FakeStore, progress: ShippingProgress
) -> None:
    await deliver(delivery, b'{"a":1}')
    own = event_of(a=5)
    store.answers.append({1: BUSY})
    await deliver(delivery, b'{"a":2}', b'{"a":3}', own)
    assert numbers(store) == [1, 2, 3, 5]
    assert (progress.shipped, progress.repeated) == (4, 0)
