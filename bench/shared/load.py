"""The load of bench.shipper: ``episode_ended`` events of exactly 319 bytes in a Kafka topic.

    python -m bench.shared.load KAFKA PREFIX DOCUMENTS      as a separate process, for millions

Each has its own UUIDv7; the last ten digits are the event's number.
"""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import uuid_utils
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.structs import TopicPartition

from borgcore.eventlog.publisher import BATCH, encode_event
from borgcore.events.timestamp import as_timestamp
from borgcore.events.topics import DEAD_LETTER, TOPICS, Topic
from borgcore.events.training import EpisodeEnded

TOPIC: Topic = "training_log"
EVENT_BYTES = 319
EVENT_PERIOD_S = 86_400 / 10_000_000  # ten million a day
PARTITIONS = 3
COMPRESSION = "zstd"  # as our publishers use
MAX_BATCH_BYTES = 1_000_000
_WINDOW = 30  # batches in flight
_STEPS = 1_000_000  # of the first event; seven digits in every event
_STEPS_DIGITS, _STAMP_BYTES, _ID_BYTES = 7, 24, 36
_EPISODE = EpisodeEnded(
    agent=1,
    episode=1234,
    episode_return=-20.0,
    episode_steps=1021,
    truncated=False,
    steps=_STEPS,
    inserted=12_345_678,
    epsilon=0.0123,
    weights_version=1234,
)


@asynccontextmanager
async def open_admin(kafka: str) -> AsyncIterator[AIOKafkaAdminClient]:
    """Open Kafka's admin client for the block."""
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    try:
        yield admin
    finally:
        await admin.close()


async def create_topics(kafka: str, prefix: str) -> None:
    """Create all topics with a prefix."""
    async with open_admin(kafka) as admin:
        await admin.create_topics([NewTopic(prefix + topic, PARTITIONS, 1) for topic in (*TOPICS, DEAD_LETTER)])


async def delete_topics(kafka: str, prefixes: Sequence[str]) -> None:
    """Delete all topics with any of the prefixes."""
    async with open_admin(kafka) as admin:
        await admin.delete_topics([prefix + topic for prefix in prefixes for topic in (*TOPICS, DEAD_LETTER)])


async def committed(kafka: str, group: str, prefix: str) -> int:
    """Return how many records of the load a group has committed."""
    partitions = [TopicPartition(prefix + TOPIC, number) for number in range(PARTITIONS)]
    async with open_admin(kafka) as admin:
        found = await admin.list_consumer_group_offsets(group, partitions=partitions)
    return sum(max(0, offset.offset) for offset in found.values())


async def is_settled(kafka: str, group: str) -> bool:
    """Return whether a group's members have their partitions."""
    async with open_admin(kafka) as admin:
        found = await admin.describe_consumer_groups([group])
    return any(state == "Stable" and members for answer in found for _, _, state, _, _, members, *_ in answer.groups)


async def fill(kafka: str, prefix: str, documents: int) -> None:
    """Write ``documents`` events, a batch to each partition in turn."""
    producer = AIOKafkaProducer(bootstrap_servers=kafka, compression_type=COMPRESSION, max_batch_size=MAX_BATCH_BYTES)
    await producer.start()
    began_s = time.time() - documents * EVENT_PERIOD_S
    try:
        waiting = []
        for turn, first in enumerate(range(0, documents, BATCH)):
            batch = producer.create_batch()
            for value in _events(first, min(first + BATCH, documents), began_s):
                if batch.append(key=None, value=value, timestamp=None) is None:
                    raise RuntimeError(f"a Kafka batch does not hold {BATCH} events of {EVENT_BYTES} bytes")
            waiting.append(await producer.send_batch(batch, prefix + TOPIC, partition=turn % PARTITIONS))
            if len(waiting) == _WINDOW:
                await asyncio.gather(*waiting)
                waiting = []
        await asyncio.gather(*waiting)
    finally:
        await producer.stop()


def _events(first: int, beyond: int, began_s: float) -> Iterator[bytes]:
    """Yield events ``EVENT_PERIOD_S`` apart, padded by the run's name; the constant parts are encoded only once."""
    short = encode_event(_EPISODE, "")
    value = encode_event(_EPISODE, "r" * (EVENT_BYTES - len(short)))
    stamp, event_id, steps = b'"@timestamp":"', b'"event_id":"', b'"steps":'
    head, rest = value.split(stamp)
    middle, rest = rest[_STAMP_BYTES:].split(event_id)
    before, after = rest[_ID_BYTES:].split(steps)
    form = head + stamp + b"%b" + middle + event_id + b"%bb0%010d" + before + steps + b"%d" + after[_STEPS_DIGITS:]
    for number in range(first, beyond):
        at = datetime.fromtimestamp(began_s + number * EVENT_PERIOD_S, UTC)
        written = as_timestamp(at).encode()
        own = str(uuid_utils.uuid7())[:24].encode()
        event = form % (written, own, number, _STEPS + number % _STEPS)
        if len(event) != EVENT_BYTES:
            raise RuntimeError(f"an event has {len(event)} bytes, {EVENT_BYTES} were expected")
        yield event


if __name__ == "__main__":
    asyncio.run(fill(sys.argv[1], sys.argv[2], int(sys.argv[3])))
