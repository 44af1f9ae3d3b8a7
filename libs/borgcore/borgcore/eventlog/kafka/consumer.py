"""Events out of Kafka, as a static member of a consumer group.

A restart of the broker, however long, is sat through: aiokafka connects again by itself. What it does not do is done
here: it waits without bounds while a group rebalances, fights with a successor of the same name for its place, and
takes a topic that was deleted and created again for the old one.

Of the last, two things tell: where a partition is taken over or goes on after silence, the record read last is read
again; and while it is read, its topic's id is asked for once a second. Not covered: we are killed within that second.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

import anyio
from aiokafka import ConsumerRecord, OffsetAndMetadata, TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError

from borgcore.errors import EventLogError
from borgcore.eventlog.kafka.client import address_of, ensure_topics, is_refusal, log_error, named_errors
from borgcore.eventlog.kafka.membership import GroupMembership
from borgcore.eventlog.kafka.outage import KafkaOutage
from borgcore.eventlog.kafka.partitions import AssignedPartitions
from borgcore.eventlog.kafka.sender import KafkaSender
from borgcore.eventlog.protocol import Chunk, Outgoing, Partition, Position, Revoked
from borgcore.events.schema import DEAD_LETTER
from borgcore.settings.sections import EventsSettings

MOST_ERRORS = 5  # one after the other, then aiokafka is taken for broken
_MARGIN_S = 0.05


class KafkaConsumer:
    """Reads Kafka as one member of a group."""

    def __init__(self, settings: EventsSettings, group: str, member: str, revoked: Revoked) -> None:
        """Connect in :meth:`open`.

        Raises:
            SettingsError: the URL is wrong.
        """
        self._settings = settings
        self._where = address_of(settings)
        self._letters = KafkaSender(settings)
        self._origin = member.encode()
        self._outage = KafkaOutage(settings)
        self._partitions = AssignedPartitions(settings, group, revoked)
        self._membership = GroupMembership(settings, group, member, self._partitions)
        self._flowing = anyio.Event()
        self._flowing.set()
        self._errors = 0

    @property
    def outage(self) -> str | None:
        """Why nothing can be read; noticed after ``timeout_s`` without an answer."""
        return self._outage.outage

    async def open(self, topics: Sequence[str]) -> None:
        """Create the topics that are missing, and join the group.

        Raises:
            EventLogError: Kafka is absent or refuses us.
        """
        await ensure_topics(self._settings, [*topics, DEAD_LETTER])
        await self._membership.join([self._settings.prefix + topic for topic in topics])

    async def close(self) -> None:
        """Close within bounds; see :meth:`GroupMembership.leave`."""
        async with anyio.create_task_group() as group:
            group.start_soon(self._letters.close)
            group.start_soon(self._membership.leave)

    async def fetch(self, max_records: int, wait_s: float) -> list[Chunk]:
        """Return the next records, at most ``max_records`` in all; none after ``wait_s`` seconds without any.

        Where a topic turns out to be another of the same name, ``revoked`` is awaited for the partition in question
        before the first record of the new one comes. Takes up to ``timeout_s`` longer where Kafka is silent.

        Raises:
            EventLogError: Kafka refuses us, or another member of our name has taken our place.
        """
        settled = self._membership.settled
        if self._flowing.is_set() and settled.is_set():
            self._check()
            if chunks := await self._read(max_records, wait_s):
                return chunks
        else:
            with anyio.move_on_after(wait_s):
                await self._flowing.wait()
                await settled.wait()  # aiokafka would wait without bounds
        self._check()
        await self._outage.check()
        return []

    def pause(self) -> None:
        """Fetch nothing until :meth:`resume`; what aiokafka has read ahead stays where it is."""
        if self._flowing.is_set():
            self._flowing = anyio.Event()

    def resume(self) -> None:
        """Fetch again."""
        self._flowing.set()

    async def commit(self, upto: Mapping[Partition, Position]) -> None:
        """Record that everything up to and including these positions is done.

        What is another's by now, what was not delivered since the partition is ours, and everything while the group
        rebalances is left out: it is read again.

        Raises:
            EventLogError: Kafka did not take it.
        """
        self._check()
        offsets: dict[TopicPartition, OffsetAndMetadata] = {}
        for partition, position in upto.items():
            tp, reading = self._partitions.find(partition)
            last = reading.find(int(position)) if reading is not None else None
            if last is not None:
                offsets[tp] = OffsetAndMetadata(last.position + 1, str(last.time_ms))
        if not offsets:
            return
        with named_errors(self._where, 2 * self._settings.timeout_s):
            try:
                await self._membership.consumer.commit(offsets)
            except (CommitFailedError, IllegalStateError):  # the group rebalances
                return
        for tp, reading in self._partitions.known().items():
            if tp in offsets:
                reading.committed = offsets[tp].offset

    async def send_dead_letters(self, letters: Sequence[bytes]) -> None:
        """Put records that can never be indexed into the topic ``dead_letter``; returns when Kafka has them.

        Raises:
            EventLogError: it has not.
        """
        await self._letters.send([Outgoing(DEAD_LETTER, self._origin, letter) for letter in letters])

    async def lag(self) -> int:
        """Count the records of our partitions that are not committed.

        Raises:
            EventLogError: Kafka did not say how many there are.
        """
        partitions = self._partitions.known()
        consumer = self._membership.consumer
        with named_errors(self._where, self._settings.timeout_s):
            starts = await consumer.beginning_offsets(list(partitions))
            ends = await consumer.end_offsets(list(partitions))
        return sum(max(0, ends[tp] - max(starts[tp], reading.committed)) for tp, reading in partitions.items())

    def _check(self) -> None:
        for failure in (self._membership.failure, self._partitions.failure):
            if failure is not None:
                raise failure

    async def _read(self, max_records: int, wait_s: float) -> list[Chunk]:
        consumer = self._membership.consumer
        await self._membership.watch()
        if self._partitions.doubted:
            await self._partitions.know_again(consumer)
        records = await self._take(max_records, wait_s)
        if self._partitions.hear(consumer):
            self._outage.heard()
        return [chunk for tp, found in records.items() for chunk in await self._partitions.deliver(consumer, tp, found)]

    async def _take(self, max_records: int, wait_s: float) -> dict[TopicPartition, list[ConsumerRecord]]:
        """Ask aiokafka, but not for partitions in doubt, and no longer than is said."""
        consumer, doubted = self._membership.consumer, self._partitions.doubted
        only = consumer.assignment() - doubted if doubted else ()
        if doubted and not only:
            await anyio.sleep(wait_s)
            return {}
        found: dict[TopicPartition, list[ConsumerRecord]] = {}
        try:
            with anyio.move_on_after(wait_s + _MARGIN_S):  # a rebalance may begin meanwhile
                found = await consumer.getmany(*only, timeout_ms=round(wait_s * 1000), max_records=max_records)
            self._errors = 0
        except KafkaError as error:
            self._errors += 1
            if is_refusal(error) or self._errors >= MOST_ERRORS:
                raise log_error(error, self._where) from error
            await anyio.sleep(wait_s)
        if not found and consumer._fetcher.error_future.done():  # noqa: SLF001  # aiokafka itself does not look
            raise EventLogError(f"{self._where} is not read any more: aiokafka's reader has failed; start again")
        return found


@asynccontextmanager
async def open_kafka_consumer(
    settings: EventsSettings, topics: Sequence[str], *, group: str, member: str, revoked: Revoked
) -> AsyncIterator[KafkaConsumer]:
    """Join ``group`` as ``member``; see :func:`borgcore.eventlog.open.open_consumer`.

    Raises:
        SettingsError: the URL is wrong.
        EventLogError: Kafka is absent or refuses us.
    """
    consumer = KafkaConsumer(settings, group, member, revoked)
    try:
        await consumer.open(topics)
        yield consumer
    finally:
        await consumer.close()
