"""Requests that the store refuses as a whole."""

from collections.abc import Mapping

import anyio
import orjson
import pytest
from structlog.testing import capture_logs

from borgcore.service.health import Health
from borglogshipper.pipeline.delivery import Delivery
from borglogshipper.pipeline.progress import ShippingProgress
from borglogshipper.stores.store import Documents, StoreBusyError, StoreRefusedError, StoreTooLargeError, Verdict
from tests.limits import HANG_S

from .fakes import FakeConsumer, FakeStore, batch_of, event_of

pytestmark = pytest.mark.usefixtures("waits")


class StrictStore(FakeStore):
    """Takes at most some bytes at once, and breaks at some words."""

    most_bytes = 10_000
    poison = b"poison"

    async def write(self, documents: Documents) -> Mapping[int, Verdict]:
        if sum(map(len, documents.bodies)) > self.most_bytes:
            self.written.append(list(documents.ids))
            raise StoreTooLargeError("answered 413")
        if any(self.poison in body for body in documents.bodies):
            self.written.append(list(documents.ids))
            raise StoreRefusedError("answered 400")
        return await super().write(documents)


@pytest.fixture
def store() -> StrictStore:
    return StrictStore()


async def test_a_request_that_is_too_large_goes_in_parts_and_a_giant_is_dead_lettered(
    delivery: Delivery, store: StrictStore, consumer: FakeConsumer, progress: ShippingProgress
) -> None:
    store.most_bytes = 400
    values = [event_of(row=row) for row in range(10)]
    values[6] = giant = event_of(text="." * 400)
    with anyio.fail_after(HANG_S):
        await delivery.deliver(batch_of(*values))
    assert store.bodies() == [value for value in values if value is not giant]
    [letter] = map(orjson.loads, consumer.dead_letters)
    assert (letter["position"], letter["value"], letter["reason"]) == (6, giant.decode(), "answered 413")
    size_bytes = sum(map(len, store.bodies()))
    assert progress == ShippingProgress(shipped=9, dead_letters=1, batches=1, size_bytes=size_bytes)


@pytest.mark.parametrize("bad", [[0], [7], [15], [0, 15], [3, 4], list(range(16))])
async def test_a_refused_request_is_split_until_those_to_blame_are_found(
    delivery: Delivery, store: StrictStore, consumer: FakeConsumer, progress: ShippingProgress, bad: list[int]
) -> None:
    values = [event_of(text="poison" if row in bad else "fine") for row in range(16)]
    with anyio.fail_after(HANG_S):
        await delivery.deliver(batch_of(*values))
    assert [orjson.loads(letter)["position"] for letter in consumer.dead_letters] == bad
    assert store.bodies() == [value for row, value in enumerate(values) if row not in bad]
    assert (progress.shipped, progress.dead_letters, progress.batches) == (16 - len(bad), len(bad), 1)
    if len(bad) == 1:
        assert len(store.written) <= 2 * 4 + 1


async def test_a_part_that_meets_a_busy_store_waits_alone(
    delivery: Delivery, store: StrictStore, progress: ShippingProgress
) -> None:
    store.most_bytes = 400
    values = [event_of(row=row) for row in range(6)]
    store.answers += [{}, StoreBusyError("away")]
    with anyio.fail_after(HANG_S):
        await delivery.deliver(batch_of(*values))
    assert store.bodies() == values
    assert progress.repeated == 0
    assert 0 < progress.retried < 6


async def test_an_outage_is_over_when_the_parts_of_a_request_get_through(
    delivery: Delivery, store: StrictStore, health: Health
) -> None:
    store.answers.append(StoreBusyError("away"))
    seen: list[bool] = []
    write = store.write

    async def grow_strict(documents: Documents) -> Mapping[int, Verdict]:
        seen.append(health.ready)
        try:
            return await write(documents)
        finally:
            store.most_bytes = 400

    store.write = grow_strict  # type: ignore[method-assign]  # the store changes in the middle
    with capture_logs() as logs, anyio.fail_after(HANG_S):
        await delivery.deliver(batch_of(*[event_of() for _ in range(6)]))
    assert seen[:3] == [False, False, True]
    assert [said["event"] for said in logs] == ["store_busy", "store_regained"]


async def test_foreign_documents_stay_foreign_in_the_parts(
    delivery: Delivery, store: StrictStore, progress: ShippingProgress
) -> None:
    values = [b'{"a":%d}' % row for row in range(4)]
    with anyio.fail_after(HANG_S):
        await delivery.deliver(batch_of(*values))
        store.most_bytes = 60
        await delivery.deliver(batch_of(*values[:3], b'{"a":7}'))
    assert [orjson.loads(body)["a"] for body in store.bodies()] == [0, 1, 2, 3, 7]
    assert (progress.shipped, progress.repeated) == (8, 3)
