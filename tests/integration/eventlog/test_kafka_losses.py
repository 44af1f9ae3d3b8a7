"""What Kafka deletes before it was read is counted; gaps that transactions leave are not."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import RecordsToDelete
from structlog.testing import capture_logs

from borgcore.eventlog.kafka.client import open_admin
from borgcore.eventlog.kafka.membership import CHECK_S
from borgcore.eventlog.kafka.sender import open_kafka_sender
from borgcore.eventlog.protocol import Consumer, Loss, Outgoing
from borgcore.settings.sections import EventsSettings
from tests.limits import HANG_S

from .kafka_log import Reader, join, replace_topic
from .test_kafka_topics import KEY, PLACE, send

TOPICS_READ = ["training_log"]


async def delete_before(settings: EventsSettings, offset: int) -> None:
    tp = TopicPartition(f"{settings.prefix}training_log", PLACE.number)
    with anyio.fail_after(HANG_S):
        async with open_admin(settings) as admin:
            await admin.delete_records({tp: RecordsToDelete(offset)})


async def until_lost(consumer: Consumer, reader: Reader | None = None) -> list[Loss]:
    """Read, and ask for the lag as the shipper does, until a loss is reported."""
    reader = reader or Reader(consumer)
    with anyio.fail_after(HANG_S):
        while not (losses := consumer.take_losses()):
            await reader.fetch()
            await consumer.lag()
    return losses


async def read_some(reader: Reader, count: int) -> None:
    """Read the first records of what one reply holds; aiokafka keeps the others and asks for no more."""
    upto = len(reader.values) + count
    with anyio.fail_after(HANG_S):
        while (left := upto - len(reader.values)) > 0:
            for chunk in await reader.consumer.fetch(left, 0.2):
                reader.values += chunk.values
                reader.upto[chunk.partition] = chunk.positions[-1]


@asynccontextmanager
async def transactions(settings: EventsSettings) -> AsyncIterator[AIOKafkaProducer]:
    servers = settings.url.removeprefix("kafka://")
    async with AIOKafkaProducer(bootstrap_servers=servers, transactional_id=f"{settings.prefix}tool") as producer:
        yield producer


async def send_in_transaction(producer: AIOKafkaProducer, settings: EventsSettings, *values: bytes, end: str) -> None:
    await producer.begin_transaction()
    for value in values:
        await producer.send_and_wait(f"{settings.prefix}training_log", value, partition=PLACE.number)
    await (producer.commit_transaction() if end == "commit" else producer.abort_transaction())


@pytest.mark.parametrize("read", [0, 10], ids=["nothing read", "something read"])
@pytest.mark.parametrize("upto", [40, 50], ids=["some left", "none left"])
async def test_records_deleted_while_nobody_reads_are_counted_once(kafka: EventsSettings, read: int, upto: int) -> None:
    sent = await send(kafka, 10, "before")
    async with join(kafka, TOPICS_READ) as consumer:
        reader = Reader(consumer)
        await reader.read(10)
        if read:
            await consumer.commit(reader.upto)
    sent += await send(kafka, 40, "event")
    await delete_before(kafka, upto)
    for losses in ([Loss(PLACE, upto - read, "deleted_unread")], []):
        async with join(kafka, TOPICS_READ) as consumer:
            reader = Reader(consumer)
            assert await reader.read(50 - upto) == sent[upto:]
            if losses:
                assert await until_lost(consumer, reader) == losses
            await reader.fetch()
            assert await consumer.lag() == 50 - upto
            assert consumer.take_losses() == []


@pytest.mark.parametrize("upto", [40, 60], ids=["some left", "none left"])
async def test_records_deleted_under_a_paused_consumer_are_counted_once(kafka: EventsSettings, upto: int) -> None:
    sent = await send(kafka, 20, "read ahead")
    async with join(kafka, TOPICS_READ) as consumer:
        reader = Reader(consumer)
        await read_some(reader, 5)
        consumer.pause()
        sent += await send(kafka, 40, "event")
        await delete_before(kafka, upto)
        await consumer.lag()
        await reader.fetch()
        consumer.resume()
        assert await until_lost(consumer, reader) == [Loss(PLACE, upto - 20, "deleted_unread")]
        await reader.read(20 + 60 - upto)
        assert reader.values == sent[:20] + sent[upto:]
        await consumer.commit(reader.upto)
        await consumer.lag()
        await reader.fetch()
        assert await consumer.lag() == 0
        assert consumer.take_losses() == []
    async with join(kafka, TOPICS_READ) as consumer:
        await Reader(consumer).fetch(1.0)
        assert consumer.take_losses() == []


async def test_a_group_without_offsets_reads_all_there_is_and_says_that_it_knows_no_more(kafka: EventsSettings) -> None:
    sent = await send(kafka, 50, "event")
    await delete_before(kafka, 20)
    with capture_logs() as logs:
        async with join(kafka, TOPICS_READ) as consumer:
            assert await Reader(consumer).read(30) == sent[20:]
            assert consumer.take_losses() == []
    [log] = [log for log in logs if log["event"] == "group_unknown"]
    assert (log["partition"], log["start"]) == (PLACE.number, 20)
    await delete_before(kafka, 45)
    async with join(kafka, TOPICS_READ) as consumer:  # nothing was committed but where the group began
        assert await until_lost(consumer) == [Loss(PLACE, 25, "deleted_unread")]


async def test_a_replaced_topic_loses_what_was_known_and_not_read(kafka: EventsSettings) -> None:
    old = [b"%d" % n + os.urandom(800_000) for n in range(8)]  # more than one reply holds
    with anyio.fail_after(HANG_S):
        async with open_kafka_sender(kafka) as sender:
            await sender.send([Outgoing("training_log", KEY, value) for value in old])
    async with join(kafka, TOPICS_READ) as consumer:
        reader = Reader(consumer)
        await read_some(reader, 1)
        await anyio.sleep(CHECK_S)
        await read_some(reader, 1)  # this asks for the topic's id
        await replace_topic(kafka)
        new = await send(kafka, 80, "new")
        [loss] = await until_lost(consumer, reader)
        read = len([value for value in reader.values if value in old])
        assert loss == Loss(PLACE, len(old) - read, "topic_replaced")
        await reader.read(read + 80)
        assert reader.values == old[:read] + new
        assert consumer.take_losses() == []


async def test_records_of_aborted_transactions_are_not_read_and_not_lost(kafka: EventsSettings) -> None:
    sent = await send(kafka, 3, "event")
    async with join(kafka, TOPICS_READ) as consumer, transactions(kafka) as producer:
        reader = Reader(consumer)
        await send_in_transaction(producer, kafka, b"aborted 1", b"aborted 2", end="abort")
        await send_in_transaction(producer, kafka, b"committed", end="commit")
        assert await reader.read(4) == [*sent, b"committed"]
        await consumer.commit(reader.upto)
        assert await consumer.lag() == 0
        await send_in_transaction(producer, kafka, b"aborted 3", end="abort")
        with anyio.fail_after(HANG_S):
            while await consumer.lag():
                assert await reader.fetch() == 0
        await delete_before(kafka, 9)  # three events, two aborted, one committed, one aborted, three markers: 10
        await consumer.lag()
        await reader.fetch()
        assert consumer.take_losses() == []
    await delete_before(kafka, -1)
    async with join(kafka, TOPICS_READ) as consumer:
        reader = Reader(consumer)
        await reader.fetch(1.0)
        new = await send(kafka, 2, "new")
        assert await reader.read(2) == new
        assert consumer.take_losses() == []


async def test_records_of_an_open_transaction_count_as_unread(kafka: EventsSettings) -> None:
    sent = await send(kafka, 3, "event")
    async with join(kafka, TOPICS_READ) as consumer, transactions(kafka) as producer:
        reader = Reader(consumer)
        await reader.read(3)
        await consumer.commit(reader.upto)
        await producer.begin_transaction()
        await producer.send_and_wait(f"{kafka.prefix}training_log", b"late", partition=PLACE.number)
        with anyio.fail_after(HANG_S):
            while await consumer.lag() != 1:
                assert await reader.fetch() == 0
        await producer.commit_transaction()
        assert await reader.read(4) == [b"late"]
        await consumer.commit(reader.upto)
        assert await consumer.lag() == 0
    assert reader.values == [*sent, b"late"]
