"""Reads events from Kafka as a static member of a consumer group.

aiokafka reconnects by itself after a restart of the broker, however long that takes. This module adds what aiokafka
lacks: it waits without limit while a group rebalances, competes with a successor of the same name for the membership,
and takes a topic that was deleted and created again for the old one.

A replaced topic is detected in two ways: after an assignment or a silence the last record is read again and compared,
and while a topic is read its id is requested once a second. A topic replaced less than a second before this process
is killed is not detected.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

import anyio
from aiokafka import ConsumerRecord, OffsetAndMetadata, TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError, OffsetOutOfRangeError

from borgcore.errors import EventLogError
from borgcore.eventlog.kafka.client import address_of, ensure_topics, is_refusal, log_error, named_errors
from borgcore.eventlog.kafka.losses import LossCounter
from borgcore.eventlog.kafka.membership import GroupMembership
from borgcore.eventlog.kafka.outage import KafkaOutage
from borgcore.eventlog.kafka.partitions import AssignedPartitions
from borgcore.eventlog.kafka.retention_watch import RetentionWatch
from borgcore.eventlog.kafka.sender import KafkaSender
from borgcore.eventlog.protocol import Chunk, Loss, Outgoing, Partition, Position, RetentionUse, Revoked
from borgcore.events.topics import DEAD_LETTER
from borgcore.settings.sections import EventsSettings

MOST_ERRORS = 5  # in a row; after them aiokafka is considered broken
_MARGIN_S = 0.05


class KafkaConsumer:
    """Reads Kafka as one member of a group."""

    def __init__(self, settings: EventsSettings, group: str, member: str, revoked: Revoked) -> None:
        """Connect in :meth:`open` only.

        Raises:
            SettingsError: the URL is invalid.
        """
        self._settings = settings
        self._where = address_of(settings)
        self._dead_letters = KafkaSender(settings)
        self._key = member.encode()
        self._outage = KafkaOutage(settings)
        self._losses = LossCounter()
        self._retention = RetentionWatch(settings, self._losses)
        self._partitions = AssignedPartitions(settings, group, revoked, self._losses)
        self._membership = GroupMembership(settings, group, member, self._partitions)
        self._flowing = anyio.Event()
        self._flowing.set()
        self._errors = 0
        self._topics: list[str] = []
        self._starts: Mapping[TopicPartition, int] = {}

    @property
    def outage(self) -> str | None:
        """Why Kafka cannot be read, noticed after ``timeout_s`` without an answer; None while it can."""
        return self._outage.reason

    async def open(self, topics: Sequence[str]) -> None:
        """Create missing topics and join the group.

        Raises:
            EventLogError: Kafka cannot be reached or refuses us.
        """
        await ensure_topics(self._settings, [*topics, DEAD_LETTER])
        self._topics = [self._settings.prefix + topic for topic in topics]
        await self._membership.join(self._topics)

    async def close(self) -> None:
        """Close in bounded time; see :meth:`GroupMembership.leave`."""
        async with anyio.create_task_group() as group:
            group.start_soon(self._dead_letters.close)
            group.start_soon(self._membership.leave)

    async def fetch(self, max_records: int, wait_s: float) -> list[Chunk]:
        """Return the next records, at most ``max_records`` in all; an empty list after ``wait_s`` without any.

        If a topic was replaced, ``revoked`` is awaited for its partitions before the new topic's first record is
        returned. Takes up to ``timeout_s`` longer while Kafka is silent.

        Raises:
            EventLogError: Kafka refuses us, or another member of our name has replaced us.
        """
        settled = self._membership.settled
        await self._note_starts()
        if self._flowing.is_set() and settled.is_set():
            self._check()
            if chunks := await self._read(max_records, wait_s):
                return chunks
        else:
            with anyio.move_on_after(wait_s):
                await self._flowing.wait()
                await settled.wait()  # aiokafka would wait without limit
        self._check()
        if await self._outage.check():
            await self._membership.renew_login()
        return []

    def pause(self) -> None:
        """Fetch nothing until :meth:`resume`; aiokafka keeps what it has read ahead."""
        if self._flowing.is_set():
            self._flowing = anyio.Event()

    def resume(self) -> None:
        """Fetch again."""
        self._flowing.set()

    async def commit(self, upto: Mapping[Partition, Position]) -> None:
        """Record that everything up to and including these positions is done.

        Left out, and therefore read again: partitions that now belong to another member, positions not delivered since
        the assignment, and everything while the group rebalances.

        Raises:
            EventLogError: the commit failed.
        """
        self._check()
        offsets: dict[TopicPartition, OffsetAndMetadata] = {}
        for partition, position in upto.items():
            tp, assigned = self._partitions.find(partition)
            if assigned is not None and (record := assigned.find(int(position))) is not None:
                offsets[tp] = assigned.commit_upto(record)
        await self._commit(offsets)

    async def _commit(self, offsets: Mapping[TopicPartition, OffsetAndMetadata]) -> None:
        if not offsets:
            return
        try:
            with named_errors(self._where, 2 * self._settings.timeout_s):
                try:
                    await self._membership.consumer.commit(offsets)
                except (CommitFailedError, IllegalStateError):  # the group rebalances
                    return
        except EventLogError:
            self._outage.doubt()
            raise
        for tp, assigned in self._partitions.positions().items():
            if tp in offsets:
                assigned.committed = offsets[tp].offset

    async def send_dead_letters(self, dead_letters: Sequence[bytes]) -> None:
        """Send records that can never be indexed to the topic ``dead_letter``; return when Kafka has them.

        Raises:
            EventsRefusedError: Kafka can never take some of them, and has all others.
            EventLogError: Kafka does not have all of them.
        """
        await self._dead_letters.send([Outgoing(DEAD_LETTER, self._key, encoded) for encoded in dead_letters])

    async def lag(self) -> int:
        """Count the records of our partitions that are not committed, those of open transactions included.

        Raises:
            EventLogError: Kafka did not answer, or refuses us.
        """
        return sum(end - start for start, end in (await self._ask_unread()).values())

    def take_losses(self) -> list[Loss]:
        """Return the losses noticed since the last call: at an assignment, while reading, and some seconds later."""
        return self._losses.take()

    async def retention_use(self) -> RetentionUse:
        """Find how near the oldest unread record of our partitions is to being deleted.

        Raises:
            EventLogError: Kafka did not answer, or refuses us.
        """
        unread = await self._ask_unread()
        positions = {tp: position for tp, position in self._partitions.positions().items() if tp in unread}
        shares = {tp: (end - start) / max(1, end - self._starts.get(tp, start)) for tp, (start, end) in unread.items()}
        with named_errors(self._where, self._settings.timeout_s):
            return await self._retention.use(self._membership.consumer, positions, shares)

    async def _ask_unread(self) -> dict[TopicPartition, tuple[int, int]]:
        """Ask where the records begin and end that are not committed; :meth:`fetch` counts those deleted unread."""
        positions = self._partitions.positions()
        consumer = self._membership.consumer
        with named_errors(self._where, self._settings.timeout_s):
            starts = await consumer.beginning_offsets(list(positions))
            ends = await consumer.end_offsets(list(positions))
        self._starts = starts
        unread = {}
        for tp, position in positions.items():
            end = max(ends[tp], position.end)
            start = max(starts[tp], position.expected if position.caught_up else position.committed)
            unread[tp] = min(start, end), end
        return unread

    async def _note_starts(self) -> None:
        """Count what was deleted unread, and commit behind it, so that it is not counted again."""
        starts, self._starts = self._starts, {}
        await self._partitions.note_starts(self._membership.consumer, starts)
        if starts:
            await self._commit_skips()

    async def _commit_skips(self) -> None:
        try:
            await self._commit(self._partitions.uncommitted_skips())
        except EventLogError:  # KafkaOutage logs an outage; the next time they are committed
            return

    def _check(self) -> None:
        for failure in (self._membership.failure, self._partitions.failure):
            if failure is not None:
                raise failure

    async def _read(self, max_records: int, wait_s: float) -> list[Chunk]:
        consumer = self._membership.consumer
        await self._membership.watch()
        await self._retention.refresh(consumer, self._topics)
        if self._partitions.unverified:
            await self._partitions.verify(consumer)
            await self._commit_skips()
        records = await self._poll(max_records, wait_s)
        if self._partitions.note_replies(consumer):
            self._outage.note_reply()
        return [chunk for tp, found in records.items() for chunk in await self._partitions.deliver(consumer, tp, found)]

    async def _poll(self, max_records: int, wait_s: float) -> dict[TopicPartition, list[ConsumerRecord]]:
        """Poll aiokafka for at most ``wait_s``, without unverified partitions."""
        consumer, unverified = self._membership.consumer, self._partitions.unverified
        only = consumer.assignment() - unverified if unverified else ()
        if unverified and not only:
            await anyio.sleep(wait_s)
            return {}
        found: dict[TopicPartition, list[ConsumerRecord]] = {}
        try:
            with anyio.move_on_after(wait_s + _MARGIN_S):  # getmany may wait longer when a rebalance begins
                found = await consumer.getmany(*only, timeout_ms=round(wait_s * 1000), max_records=max_records)
            self._errors = 0
        except OffsetOutOfRangeError as error:
            await self._partitions.note_out_of_range(consumer, error.args[0])
        except KafkaError as error:
            self._errors += 1
            if is_refusal(error) or self._errors >= MOST_ERRORS:
                raise log_error(error, self._where) from error
            await anyio.sleep(wait_s)
        if not found and consumer._fetcher.error_future.done():  # noqa: SLF001  # aiokafka does not check it
            raise EventLogError(f"{self._where} can no longer be read: aiokafka's fetcher has failed; start again")
        return found


@asynccontextmanager
async def open_kafka_consumer(
    settings: EventsSettings, topics: Sequence[str], *, group: str, member: str, revoked: Revoked
) -> AsyncIterator[KafkaConsumer]:
    """Join ``group`` as ``member``; see :func:`borgcore.eventlog.open.open_consumer`.

    Raises:
        SettingsError: the URL is invalid.
        EventLogError: Kafka cannot be reached or refuses us.
    """
    consumer = KafkaConsumer(settings, group, member, revoked)
    try:
        await consumer.open(topics)
        yield consumer
    finally:
        await consumer.close()
