"""Topics that are deleted and created again, while somebody reads them and while nobody does."""

from collections.abc import Collection

import anyio
import pytest
from aiokafka import AIOKafkaConsumer, OffsetAndMetadata, TopicPartition
from aiokafka.partitioner import DefaultPartitioner

from borgcore.eventlog.kafka.sender import open_kafka_sender
from borgcore.eventlog.protocol import Outgoing, Partition
from borgcore.settings.sections import EventsSettings
from tests.limits import HANG_S

from .kafka_log import Reader, join, replace_topic

PLACE = Partition("training_log", 0)
PARTITIONS = [0, 1, 2]  # what Kafka itself gives a topic: a client that asks for one creates it again
KEY = next(key for n in range(99) if DefaultPartitioner()(key := b"%d" % n, PARTITIONS, PARTITIONS) == PLACE.number)


def of_one_key(count: int, name: str) -> list[Outgoing]:
    return [Outgoing("training_log", KEY, b"%s %d" % (name.encode(), n)) for n in range(count)]


async def send(settings: EventsSettings, count: int, name: str) -> list[bytes]:
    with anyio.fail_after(HANG_S):
        async with open_kafka_sender(settings) as sender:
            await sender.send(of_one_key(count, name))
    return [event.value for event in of_one_key(count, name)]


@pytest.mark.parametrize("count", [10, 50, 80], ids=["shorter", "as long", "longer"])
async def test_a_topic_replaced_while_nobody_reads_is_read_from_its_start(kafka: EventsSettings, count: int) -> None:
    await send(kafka, 50, "old")
    async with join(kafka, ["training_log"]) as consumer:
        reader = Reader(consumer)
        await reader.read(50)
        await consumer.commit(reader.upto)
    await replace_topic(kafka)
    new = await send(kafka, count, "new")
    async with join(kafka, ["training_log"]) as consumer:
        assert await Reader(consumer).read(count) == new
        assert await consumer.lag() == count


@pytest.mark.parametrize("count", [10, 50, 80], ids=["shorter", "as long", "longer"])
async def test_a_commit_of_a_topic_that_is_gone_is_not_taken_for_one_of_its_successor(
    kafka: EventsSettings, count: int
) -> None:
    new = await send(kafka, count, "new")
    await commit_as_another(kafka, OffsetAndMetadata(50, "1700000000000"))  # when its last record was written
    async with join(kafka, ["training_log"]) as consumer:
        reader = Reader(consumer)
        assert await reader.read(count) == new
        assert await consumer.lag() == count
        await consumer.commit(reader.upto)
        assert await consumer.lag() == 0


async def test_a_commit_after_its_topic_was_replaced_skips_nothing(kafka: EventsSettings) -> None:
    await send(kafka, 50, "old")
    async with join(kafka, ["training_log"]) as consumer:
        reader = Reader(consumer)
        await reader.read(50)
        consumer.pause()  # it does not look at the topic
        await replace_topic(kafka)
        new = await send(kafka, 80, "new")
        await consumer.commit(reader.upto)
    async with join(kafka, ["training_log"]) as consumer:
        assert await Reader(consumer).read(80) == new


@pytest.mark.parametrize("count", [10, 80], ids=["shorter", "longer"])
async def test_a_topic_replaced_under_a_consumer_is_read_from_its_start(kafka: EventsSettings, count: int) -> None:
    gone: list[Partition] = []

    async def revoked(partitions: Collection[Partition]) -> None:
        gone.extend(partitions)

    await send(kafka, 50, "old")
    async with join(kafka, ["training_log"], revoked=revoked) as consumer:
        reader = Reader(consumer)
        await reader.read(50)
        await consumer.commit(reader.upto)
        await replace_topic(kafka)
        new = await send(kafka, count, "new")
        assert await reader.read(50 + count) == new
        assert PLACE in gone
        await consumer.commit(reader.upto)
        assert await consumer.lag() == 0


async def test_a_topic_replaced_under_a_paused_consumer_is_read_from_its_start(kafka: EventsSettings) -> None:
    gone: list[Partition] = []

    async def revoked(partitions: Collection[Partition]) -> None:
        gone.extend(partitions)
        await consumer.commit(reader.upto)  # of the old one: left out

    await send(kafka, 50, "old")
    async with join(kafka, ["training_log"], revoked=revoked) as consumer:
        reader = Reader(consumer)
        await reader.read(50)
        consumer.pause()
        await replace_topic(kafka)
        new = await send(kafka, 80, "new")
        for _ in range(8):
            assert await reader.fetch(0.5) == 0
        consumer.resume()
        assert await reader.read(130) == new
        assert PLACE in gone
        await consumer.commit(reader.upto)
        assert await consumer.lag() == 0


async def test_an_offset_that_another_tool_has_set_is_taken_as_it_is(kafka: EventsSettings) -> None:
    sent = await send(kafka, 50, "event")
    await commit_as_another(kafka, OffsetAndMetadata(20, ""))
    async with join(kafka, ["training_log"]) as consumer:
        assert await Reader(consumer).read(30) == sent[20:]


async def commit_as_another(settings: EventsSettings, offset: OffsetAndMetadata) -> None:
    partition = TopicPartition(f"{settings.prefix}training_log", PLACE.number)
    servers, group = settings.url.removeprefix("kafka://"), f"{settings.prefix}group"
    async with AIOKafkaConsumer(bootstrap_servers=servers, group_id=group, enable_auto_commit=False) as tool:
        tool.assign([partition])
        await tool.commit({partition: offset})
