"""How near unread records are to being deleted, by the settings that a real Kafka reports."""

import anyio
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import NewTopic

from borgcore.eventlog.kafka.client import open_admin
from borgcore.eventlog.protocol import Loss, RetentionUse
from borgcore.settings.sections import EventsSettings
from tests.limits import HANG_S, LONG_TEST_TIMEOUT_S

from .kafka_log import Reader, join
from .test_kafka_losses import until_lost
from .test_kafka_topics import PLACE, send


async def create(settings: EventsSettings, **configs: str) -> None:
    named = {name.replace("_", "."): value for name, value in configs.items()}
    async with open_admin(settings) as admin:
        reply = await admin.create_topics([NewTopic(f"{settings.prefix}training_log", 3, 1, topic_configs=named)])
    assert [code for _, code, _ in reply.topic_errors] == [0]


@pytest.mark.parametrize(("name", "limit"), [("retention_ms", "1000"), ("retention_bytes", "10")])
async def test_unread_records_use_retention_until_they_are_committed(
    kafka: EventsSettings, name: str, limit: str
) -> None:
    await create(kafka, **{name: limit})
    await send(kafka, 50, "event")
    async with join(kafka, ["training_log"]) as consumer:
        reader = Reader(consumer)
        await reader.read(50)
        with anyio.fail_after(HANG_S):
            while (use := await consumer.retention_use()).share < 1.0:  # the records grow old
                await reader.fetch()
        assert f"{kafka.prefix}training_log-{PLACE.number}" in use.text
        assert name.replace("_", ".") in use.text
        await consumer.commit(reader.upto)
        assert (await consumer.retention_use()).share < 1.0


async def test_what_kafka_keeps_for_ever_is_in_no_danger(kafka: EventsSettings) -> None:
    await create(kafka, retention_ms="-1")
    await send(kafka, 50, "event")
    async with join(kafka, ["training_log"]) as consumer:
        await Reader(consumer).read(50)
        assert await consumer.retention_use() == RetentionUse()


@pytest.mark.timeout(LONG_TEST_TIMEOUT_S)
async def test_a_compacted_topic_is_always_in_danger_and_its_gaps_are_losses(kafka: EventsSettings) -> None:
    segments = {"segment_ms": "100", "min_cleanable_dirty_ratio": "0.001", "max_compaction_lag_ms": "100"}
    await create(kafka, cleanup_policy="compact", **segments)
    await send(kafka, 50, "event")
    await anyio.sleep(0.2)  # longer than a segment is written to
    await send(kafka, 1, "newest")
    left = await read_when_compacted(kafka)
    async with join(kafka, ["training_log"]) as consumer:
        reader = Reader(consumer)
        assert await until_lost(consumer, reader) == [Loss(PLACE, 51 - len(left), "compacted")]
        await reader.read(len(left))
        assert reader.values == left
        with anyio.fail_after(HANG_S):
            assert "has cleanup.policy=compact" in (await consumer.retention_use()).text
        await consumer.commit(reader.upto)
        assert await consumer.lag() == 0


async def read_when_compacted(settings: EventsSettings) -> list[bytes | None]:
    """Read as nobody's member until fewer records are left than were sent."""
    partition = TopicPartition(f"{settings.prefix}training_log", PLACE.number)
    servers = settings.url.removeprefix("kafka://")
    async with AIOKafkaConsumer(bootstrap_servers=servers) as tool:
        tool.assign([partition])
        with anyio.fail_after(HANG_S):
            while True:
                tool.seek(partition, 0)
                values: list[bytes | None] = []
                while await tool.position(partition) < 51:
                    found = await tool.getmany(timeout_ms=100)
                    values += [record.value for record in found.get(partition, [])]
                if len(values) < 51:
                    return values
                await anyio.sleep(0.5)
