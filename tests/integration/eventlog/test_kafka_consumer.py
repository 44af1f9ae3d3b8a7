"""Reading a real Kafka: commits, pauses, lag, dead letters, other producers' records."""

import time

import anyio
import pytest
from aiokafka import AIOKafkaProducer

from borgcore.errors import EventLogError
from borgcore.eventlog.kafka.client import ensure_topics
from borgcore.eventlog.kafka.consumer import KafkaConsumer
from borgcore.eventlog.kafka.sender import open_kafka_sender
from borgcore.eventlog.protocol import Consumer, Partition
from borgcore.events.topics import DEAD_LETTER
from borgcore.settings.sections import EventsSettings
from tests.limits import HANG_S

from .kafka_log import Reader, events, join


async def test_a_successor_goes_on_behind_the_committed_prefix(kafka: EventsSettings) -> None:
    kafka = kafka.model_copy(update={"partitions": 1})
    sent = [event.value for event in events(100)]
    async with open_kafka_sender(kafka) as sender:
        await sender.send(events(100))
    async with join(kafka, ["training_log"]) as consumer:
        reader = Reader(consumer)
        assert await reader.read(100) == sent
        await consumer.commit({Partition("training_log", 0): 59})
        await consumer.commit({Partition("training_log", 1): 7})  # not ours: left out
    async with join(kafka, ["training_log"]) as consumer:
        assert await Reader(consumer).read(40) == sent[60:]
        assert await consumer.lag() == 40
        await consumer.commit({Partition("training_log", 0): 99})
        assert await consumer.lag() == 0
    async with join(kafka, ["training_log"]) as consumer:
        assert await Reader(consumer).fetch(1.0) == 0


async def test_lag_counts_what_is_not_committed_of_all_topics(kafka: EventsSettings) -> None:
    async with open_kafka_sender(kafka) as sender:
        await sender.send([*events(30), *events(12, topic="memory_monitoring")])
    async with join(kafka) as consumer:
        reader = Reader(consumer)
        await reader.read(42)
        assert await consumer.lag() == 42
        await consumer.commit({part: upto for part, upto in reader.upto.items() if part.topic == "training_log"})
        assert await consumer.lag() == 12
        await consumer.commit(reader.upto)
        assert await consumer.lag() == 0


async def test_a_paused_consumer_returns_nothing_stays_a_member_and_goes_on_where_it_was(
    kafka: EventsSettings,
) -> None:
    lost: list[object] = []

    async def revoked(partitions: object) -> None:
        lost.append(partitions)

    sent = sorted(event.value for event in events(300))
    async with (
        open_kafka_sender(kafka) as sender,
        join(kafka, revoked=revoked) as consumer,
    ):
        reader = Reader(consumer)
        await sender.send(events(300)[:100])
        await reader.read(100)
        consumer.pause()
        await sender.send(events(300)[100:])
        assert [await reader.fetch(0.1) for _ in range(10)] == [0] * 10
        with anyio.fail_after(HANG_S):
            assert await consumer.fetch(1, 0.0) == []
        await consumer.commit(reader.upto)
        consumer.resume()
        await reader.read(300)
        assert sorted(filter(None, reader.values)) == sent
        await consumer.commit(reader.upto)
        assert await consumer.lag() == 0
    assert lost == []


async def time_fetch(consumer: Consumer, wait_s: float) -> float:
    began_s = time.monotonic()
    assert await consumer.fetch(10, wait_s) == []
    return time.monotonic() - began_s


async def test_a_fetch_without_records_takes_no_longer_than_its_limit(kafka: EventsSettings) -> None:
    async with join(kafka) as consumer:
        await consumer.fetch(10, 0.5)
        short_s, long_s = [await time_fetch(consumer, wait_s) for wait_s in (0.2, 4.0)]
        assert 0.1 < short_s < long_s


async def test_a_fetch_never_returns_more_records_than_asked_for(kafka: EventsSettings) -> None:
    async with (
        open_kafka_sender(kafka) as sender,
        join(kafka) as consumer,
    ):
        await sender.send(events(100))
        sizes: list[int] = []
        with anyio.fail_after(HANG_S):
            while sum(sizes) < 100:
                sizes.append(sum(len(chunk.values) for chunk in await consumer.fetch(7, 0.5)))
        assert max(sizes) == 7


async def test_a_fetcher_that_died_inside_aiokafka_is_reported(kafka: EventsSettings) -> None:
    async with join(kafka) as consumer:
        reader = Reader(consumer)
        await reader.fetch()
        assert isinstance(consumer, KafkaConsumer)
        consumer._membership.consumer._fetcher._fetch_task.cancel()
        with anyio.fail_after(HANG_S), pytest.raises(EventLogError, match="aiokafka's fetcher has failed; start again"):
            await reader.fetch_for_ever()


async def test_dead_letters_are_in_their_topic_when_sending_returns(kafka: EventsSettings) -> None:
    async with join(kafka) as consumer:
        with anyio.fail_after(HANG_S):
            await consumer.send_dead_letters([b"first", b"second"])
    # In the same group a new member would wait until Kafka counts "one" as dead.
    async with join(kafka, [DEAD_LETTER], group="other") as consumer:
        assert await Reader(consumer).read(2) == [b"first", b"second"]


@pytest.mark.parametrize("compression", [None, "gzip", "snappy", "lz4", "zstd"])
async def test_records_of_producers_that_compress_otherwise_and_tombstones_are_read(
    kafka: EventsSettings, compression: str | None
) -> None:
    kafka = kafka.model_copy(update={"partitions": 1})
    await ensure_topics(kafka, ["training_log"])
    servers = kafka.url.removeprefix("kafka://")
    began_ms = int(time.time() * 1000)
    async with AIOKafkaProducer(bootstrap_servers=servers, compression_type=compression) as producer:
        for n in range(50):
            await producer.send(f"{kafka.prefix}training_log", b"value %d" % n, b"key")
        await producer.send_and_wait(f"{kafka.prefix}training_log", None, b"key")
    async with join(kafka, ["training_log"]) as consumer:
        reader = Reader(consumer)
        assert await reader.read(51) == [*(b"value %d" % n for n in range(50)), None]
    assert all(began_ms <= time_ms <= int(time.time() * 1000) for time_ms in reader.times_ms)
