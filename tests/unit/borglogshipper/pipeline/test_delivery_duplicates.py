"""A record whose event_id is taken: done if it is the same document, dead-lettered if it is another."""

import anyio
import orjson
import pytest

from borglogshipper.pipeline.delivery import Delivery
from borglogshipper.pipeline.progress import ShippingProgress
from borglogshipper.pipeline.record import RecordBatch, RecordReader
from borglogshipper.stores.store import StoreBusyError
from tests.limits import HANG_S

from .fakes import MAX_BYTES, MAX_DEPTH, OTHER, STAMP, FakeConsumer, FakeStore, batch_of, chunk_of, event_of

pytestmark = pytest.mark.usefixtures("waits")
ID = "0193a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b"
SPELLINGS = [ID, ID.upper(), ID.replace("-", ""), f"{{{ID}}}", f"urn:uuid:{ID}", f"URN:UUID:{ID.upper()}"]


async def deliver(delivery: Delivery, *values: bytes) -> None:
    with anyio.fail_after(HANG_S):
        await delivery.deliver(batch_of(*values))


@pytest.mark.parametrize("again", SPELLINGS)
async def test_the_same_uuid_in_another_spelling_is_the_same_id(
    delivery: Delivery, store: FakeStore, consumer: FakeConsumer, progress: ShippingProgress, again: str
) -> None:
    await deliver(delivery, event_of(event_id=ID, a=1))
    await deliver(delivery, event_of(event_id=again, a=1))
    assert [id_ for _, id_ in store.kept] == [ID]
    assert (progress.repeated, consumer.dead_letters) == (1, [])
    await deliver(delivery, event_of(event_id=again, a=2))
    assert (progress.repeated, progress.dead_letters) == (1, 1)


async def test_an_identical_record_is_done_without_a_word_however_it_is_laid_out(
    delivery: Delivery, store: FakeStore, consumer: FakeConsumer, progress: ShippingProgress
) -> None:
    record = {"@timestamp": STAMP, "event_id": ID, "a": [1, 2.5, {"b": None}]}
    backwards = dict(reversed(record.items()))
    values = [orjson.dumps(record), orjson.dumps(record, option=orjson.OPT_INDENT_2), orjson.dumps(backwards)]
    for value in values:
        await deliver(delivery, value)
    await deliver(delivery, *values)
    assert store.bodies() == [values[0]]
    assert (progress.shipped, progress.repeated, progress.dead_letters) == (6, 5, 0)
    assert consumer.dead_letters == []


@pytest.mark.parametrize("other", [{"a": 2}, {"a": 1, "b": 1}, {}, {"a": "1"}, {"a": True}, {"a": 1.0}])
async def test_another_record_with_a_taken_id_is_dead_lettered_and_the_stored_one_stays(
    delivery: Delivery, store: FakeStore, consumer: FakeConsumer, progress: ShippingProgress, other: dict[str, object]
) -> None:
    first = event_of(event_id=ID, a=1)
    second = orjson.dumps({"@timestamp": STAMP, "event_id": ID, "event": "made"} | other)
    good = event_of()
    await deliver(delivery, first)
    await deliver(delivery, second, good)
    assert store.bodies() == [first, good]
    [letter] = map(orjson.loads, consumer.dead_letters)
    assert letter["value"] == second.decode()
    assert letter["reason"] == f"training_log-2026.11 has another document with its event_id {ID}"
    assert (progress.shipped, progress.repeated, progress.dead_letters) == (2, 0, 1)


async def test_two_records_of_one_batch_with_one_id_are_told_apart_as_well(
    delivery: Delivery, store: FakeStore, consumer: FakeConsumer, progress: ShippingProgress
) -> None:
    first, second = event_of(event_id=ID, a=1), event_of(event_id=ID, a=2)
    await deliver(delivery, first, second, first)
    assert store.bodies() == [first]
    assert [orjson.loads(letter)["position"] for letter in consumer.dead_letters] == [1]
    assert (progress.shipped, progress.repeated) == (2, 1)


async def test_an_id_is_taken_in_its_topic_and_month_alone(
    delivery: Delivery, store: FakeStore, consumer: FakeConsumer
) -> None:
    here, later = event_of(event_id=ID), event_of(event_id=ID, **{"@timestamp": "2026-12-01T00:00:00Z"})
    batch, reader = RecordBatch(), RecordReader(MAX_BYTES, MAX_DEPTH)
    reader.read(chunk_of(here, later), batch)
    reader.read(chunk_of(here, partition=OTHER), batch)
    with anyio.fail_after(HANG_S):
        await delivery.deliver(batch)
    assert set(store.kept) == {
        ("training_log-2026.11", ID),
        ("training_log-2026.12", ID),
        ("memory_monitoring-2026.11", ID),
    }
    assert consumer.dead_letters == []


async def test_a_store_that_cannot_be_read_now_is_asked_again(
    delivery: Delivery, store: FakeStore, consumer: FakeConsumer, progress: ShippingProgress
) -> None:
    await deliver(delivery, event_of(event_id=ID, a=1))
    store.read_errors += [StoreBusyError("429")] * 2
    await deliver(delivery, event_of(event_id=ID, a=2))
    assert len(consumer.dead_letters) == progress.dead_letters == 1
