"""What tests do with a Kafka."""

from collections.abc import Collection, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field

import anyio
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import NoError, TopicAlreadyExistsError, for_code

from borgcore.errors import EventLogError
from borgcore.eventlog.kafka.client import open_admin
from borgcore.eventlog.kafka.consumer import open_kafka_consumer
from borgcore.eventlog.kafka.metadata import TopicId, ask_topic_ids
from borgcore.eventlog.kafka.sender import KafkaSender
from borgcore.eventlog.protocol import Consumer, Outgoing, Partition, Position, Revoked
from borgcore.events.topics import TOPICS
from borgcore.settings.sections import EventsSettings
from tests.limits import HANG_S

LOOK_S = 0.02


async def delete_topics(settings: EventsSettings) -> None:
    async with open_admin(settings) as admin:
        ours = [topic for topic in await admin.list_topics() if topic.startswith(settings.prefix)]
        if ours:
            await admin.delete_topics(ours)


async def _topic_id(admin: AIOKafkaAdminClient, topic: str) -> TopicId | None:
    return (await ask_topic_ids(admin, [topic])).get(topic)


async def replace_topic(settings: EventsSettings) -> None:
    """Replace the topic training_log; return once the broker has the new one.

    For a while after it has agreed to delete a topic, it still writes to it.
    """
    topic = f"{settings.prefix}training_log"
    with anyio.fail_after(HANG_S):
        async with open_admin(settings) as admin:
            former = await _topic_id(admin, topic)
            await admin.delete_topics([topic])
            while await _topic_id(admin, topic) == former:  # noqa: ASYNC110  # another process's state
                await anyio.sleep(LOOK_S)
            reply = await admin.create_topics([NewTopic(topic, settings.partitions, 1)])
            while await _topic_id(admin, topic) is None:  # noqa: ASYNC110  # as above
                await anyio.sleep(LOOK_S)
    [(_, code, _)] = reply.topic_errors
    assert for_code(code) in {NoError, TopicAlreadyExistsError}  # by a reader's question


@dataclass
class Reader:
    """What came out of a consumer."""

    consumer: Consumer
    values: list[bytes | None] = field(default_factory=list)
    times_ms: list[int] = field(default_factory=list)
    upto: dict[Partition, Position] = field(default_factory=dict)

    async def read(self, count: int) -> list[bytes | None]:
        """Read until there are ``count`` values in all; returns those that came in this call."""
        before = len(self.values)
        with anyio.fail_after(HANG_S):
            while len(self.values) < count:
                await self.fetch()
        return self.values[before:]

    async def fetch(self, wait_s: float = 0.2) -> int:
        chunks = await self.consumer.fetch(1_000, wait_s)
        for chunk in chunks:
            assert len(chunk.positions) == len(chunk.times_ms) == len(chunk.values) > 0
            assert chunk.positions == sorted(chunk.positions, key=int)
            self.values += chunk.values
            self.times_ms += chunk.times_ms
            self.upto[chunk.partition] = chunk.positions[-1]
        return sum(len(chunk.values) for chunk in chunks)

    async def fetch_for_ever(self) -> None:
        while True:
            await self.fetch()


async def ignore(partitions: Collection[Partition]) -> None:
    """Nothing is under way when partitions go."""


def events(count: int, name: str = "event", keys: int = 5, topic: str = "training_log") -> list[Outgoing]:
    return [Outgoing(topic, b"run/agent/%d" % (n % keys), f"{name} {n % keys} {n:06}".encode()) for n in range(count)]


async def send_until_taken(sender: KafkaSender, batch: Sequence[Outgoing]) -> list[bytes]:
    """Send as the publisher does, again until the log has it; return the values."""
    with anyio.fail_after(HANG_S):
        while True:
            try:
                await sender.send(batch)
            except EventLogError:
                await anyio.sleep(0.1)
            else:
                return [event.value for event in batch]


def join(
    settings: EventsSettings,
    topics: Sequence[str] = TOPICS,
    member: str = "one",
    revoked: Revoked = ignore,
    group: str = "group",
) -> AbstractAsyncContextManager[Consumer]:
    """Open a consumer in a group of the test's own."""
    return open_kafka_consumer(settings, topics, group=f"{settings.prefix}{group}", member=member, revoked=revoked)
