"""The partitions assigned to us: how far each was read, and which must be verified before reading on."""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRecord, OffsetAndMetadata, TopicPartition

from borgcore.errors import EventLogError
from borgcore.eventlog.kafka.client import address_of, is_refusal, named_errors, open_admin
from borgcore.eventlog.kafka.losses import DELETED, REPLACED, LossCounter
from borgcore.eventlog.kafka.metadata import TopicId, ask_topic_ids
from borgcore.eventlog.kafka.position import PartitionPosition
from borgcore.eventlog.protocol import Chunk, Partition, Revoked
from borgcore.settings.sections import EventsSettings

SILENCE_MS = 3_000  # a partition without replies for longer may have been replaced

_log = structlog.get_logger()


class _Unread(NamedTuple):
    """What was not read of a partition at the last read under a known id of its topic."""

    position: PartitionPosition
    begin: int
    end: int

    def lost(self) -> int:
        """Count the offsets not read until now; whoever has passed the end has read on in another topic."""
        passed = self.position.expected
        return self.end - (passed if passed <= self.end else self.begin)


class AssignedPartitions:
    """The partitions that the group assigned to us; an unverified one delivers nothing until it is verified."""

    def __init__(self, settings: EventsSettings, group: str, revoked: Revoked, losses: LossCounter) -> None:
        """Begin without partitions; ``revoked`` is awaited before a partition is released.

        Raises:
            SettingsError: the URL is invalid.
        """
        self.failure: Exception | None = None
        """The error that ``revoked`` raised; aiokafka would swallow it."""
        self.unverified: set[TopicPartition] = set()
        """Partitions whose topic may have been replaced by another of the same name."""
        self.generation = 0
        """Incremented whenever partitions are assigned or released, so that a task can notice a rebalance."""
        self._settings = settings
        self._where = address_of(settings)
        self._group = group
        self._revoked = revoked
        self._losses = losses
        self._positions: dict[TopicPartition, PartitionPosition] = {}
        self._topic_ids: dict[str, TopicId] = {}
        self._former_ids: set[TopicId] = set()
        self._assigned: set[TopicPartition] = set()
        self._confirmed: dict[TopicPartition, _Unread] = {}  # kept in a rebalance: a replaced topic causes one
        self._confirming: set[TopicPartition] = set()  # their id was known just now: the next read counts as well

    def positions(self) -> dict[TopicPartition, PartitionPosition]:
        """Return the positions of all partitions that were verified since their assignment."""
        return dict(self._positions)

    def find(self, partition: Partition) -> tuple[TopicPartition, PartitionPosition | None]:
        """Return Kafka's name of a partition, with the prefix, and its position if it is assigned to us."""
        tp = TopicPartition(self._settings.prefix + partition.topic, partition.number)
        return tp, self._positions.get(tp)

    def assign(self, assigned: Collection[TopicPartition]) -> None:
        """Replace the partitions by those that the group has assigned, all of them unverified."""
        self.generation += 1
        self._positions.clear()
        self._confirming.clear()
        self._assigned = set(assigned)
        self.unverified = set(assigned)

    async def release(self) -> None:
        """Give up all partitions; ``revoked`` is awaited first, and later commits are left out."""
        self.generation += 1
        self.unverified = set()
        await self._release(list(self._positions))

    def note_replies(self, consumer: AIOKafkaConsumer) -> bool:
        """Return whether replies have come; a partition whose reply follows a long silence becomes unverified."""
        replied = False
        for tp in consumer.assignment() & self._positions.keys():
            position, polled_ms = self._positions[tp], consumer.last_poll_timestamp(tp)
            if polled_ms is None or polled_ms == position.polled_ms:
                continue
            if position.polled_ms and polled_ms - position.polled_ms > SILENCE_MS and position.last is not None:
                self.unverified.add(tp)
            position.polled_ms = polled_ms
            replied = True
        return replied

    async def check_topic_ids(self, consumer: AIOKafkaConsumer, topics: Collection[str]) -> None:
        """Compare our topics' ids with those known before; a replaced topic is read from its start.

        Records of the new topic that were delivered before the replacement was noticed are delivered again.
        """
        generation = self.generation
        try:
            with named_errors(self._where, self._settings.timeout_s):
                found = await ask_topic_ids(consumer, topics)
        except EventLogError:  # KafkaOutage logs an outage
            return
        for topic, topic_id in found.items():
            known = self._topic_ids.setdefault(topic, topic_id)
            if topic_id == known:
                self._confirm(topic)
            if topic_id == known or topic_id in self._former_ids:  # a broker may lag behind the others
                continue
            for tp in [tp for tp in self._confirmed if tp.topic == topic and tp not in self._positions]:
                self._lose_former(tp)
            for tp in [tp for tp in self._positions if tp.topic == topic]:
                if generation == self.generation:
                    await self._restart(consumer, tp)
            if generation != self.generation:  # the group rebalances: leave the topic to the next check
                return
            self._former_ids.add(known)
            self._topic_ids[topic] = topic_id

    async def deliver(
        self, consumer: AIOKafkaConsumer, tp: TopicPartition, records: list[ConsumerRecord]
    ) -> list[Chunk]:
        """Make a chunk of the records; none if the partition is unverified or replaced, or no record is new."""
        position = self._positions.get(tp)
        if position is None or tp in self.unverified:
            return []
        if position.is_other(records[0]):
            await self._restart(consumer, tp)
            return []
        chunks = position.deliver(records)
        await self._advance(consumer, tp)
        return chunks

    async def verify(self, consumer: AIOKafkaConsumer) -> None:
        """Seek each unverified partition to its last record, which is read again to verify it, or to its committed end.

        A partition that has become shorter was replaced and is read from its start. What was deleted before it was
        read is counted.

        Raises:
            EventLogError: Kafka refuses us. An outage is no error: the partitions stay unverified.
        """
        present = [tp for tp in self.unverified if tp.partition in (consumer.partitions_for_topic(tp.topic) or ())]
        unknown = [tp for tp in present if tp not in self._positions]
        generation = self.generation
        try:
            with named_errors(self._where, 2 * self._settings.timeout_s):
                starts: dict[TopicPartition, int] = await consumer.beginning_offsets(present)
                ends: dict[TopicPartition, int] = await consumer.end_offsets(present)
                committed = await self._ask_committed(unknown)
        except EventLogError as error:
            if error.__cause__ is not None and is_refusal(error.__cause__):
                raise
            return
        for tp in present:
            if generation != self.generation:  # the group has rebalanced meanwhile
                return
            self.unverified.discard(tp)
            if tp in unknown:
                self._positions[tp] = self._resume(tp, starts[tp], *committed.get(tp, (-1, "")))
            await self._seek(consumer, tp, starts[tp], ends[tp])

    async def note_starts(self, consumer: AIOKafkaConsumer, starts: Mapping[TopicPartition, int]) -> None:
        """Count what was deleted before it was read, except in partitions of which aiokafka still holds records.

        Everything that aiokafka has returned must have been delivered.
        """
        for tp, start in starts.items():
            position = self._positions.get(tp)
            if position is None or tp in self.unverified or tp in consumer._fetcher._records:  # noqa: SLF001  # there is no public API
                continue
            await self._advance(consumer, tp)
            self._losses.add(position.partition, position.lose_before(start), DELETED)

    async def note_out_of_range(self, consumer: AIOKafkaConsumer, tps: Collection[TopicPartition]) -> None:
        """Verify partitions of which Kafka has not got the offset asked for: deleted, or the topic was replaced."""
        for tp in tps:
            await self._advance(consumer, tp)
            self.unverified.add(tp)

    def uncommitted_skips(self) -> dict[TopicPartition, OffsetAndMetadata]:
        """Return what to commit for partitions whose next offsets have no record, so that none will be committed."""
        return {
            tp: OffsetAndMetadata(position.expected, "" if position.last is None else str(position.last.time_ms))
            for tp, position in self._positions.items()
            if position.caught_up and position.expected > position.committed and tp not in self.unverified
        }

    def _resume(self, tp: TopicPartition, start: int, committed: int, metadata: str) -> PartitionPosition:
        """Begin where the group has committed; a group that has not begins at the start of the log."""
        partition = Partition(tp.topic.removeprefix(self._settings.prefix), tp.partition)
        position = PartitionPosition(partition, committed, metadata)
        if committed < 0:
            position.lose_before(start)
            if start:
                _log.warning(
                    "group_unknown",
                    group=self._group,
                    topic=tp.topic,
                    partition=tp.partition,
                    start=start,
                    reason="the group is new, or its offsets were deleted or have expired",
                    consequence="read from the oldest record; whether earlier ones were read is unknown",
                )
        return position

    async def _seek(self, consumer: AIOKafkaConsumer, tp: TopicPartition, start: int, end: int) -> None:
        """Seek a partition that is at ``start`` to ``end``, and count what was deleted before it was read."""
        position = self._positions[tp]
        last = position.begin_check()
        upto = position.expected if last is None else last.position + 1
        if upto > end:
            await self._restart(consumer, tp)
            return
        self._losses.add(position.partition, position.lose_before(start), DELETED)
        # aiokafka may have read ahead, and those records may have been dropped
        consumer.seek(tp, max(start, position.expected if last is None else last.position))

    async def _advance(self, consumer: AIOKafkaConsumer, tp: TopicPartition) -> None:
        """Pass the offsets without a record that aiokafka has passed."""
        position = self._positions.get(tp)
        if position is None or tp in self.unverified or tp not in consumer.assignment():
            return
        position.end = consumer.highwater(tp) or 0
        position.advance(await consumer.position(tp))
        if tp in self._confirming:
            self._confirmed[tp] = _Unread(position, position.expected, position.end)
            self._confirming.discard(tp)
        self._losses.add_skipped(position.partition, position.take_skipped())

    def _confirm(self, topic: str) -> None:
        for tp in [tp for tp in self._confirmed if tp.topic == topic and tp not in self._assigned]:
            del self._confirmed[tp]  # another member reads it now
        for tp, position in self._positions.items():
            if tp.topic == topic:
                self._confirmed[tp] = _Unread(position, position.expected, position.end)
                self._confirming.add(tp)

    def _lose_former(self, tp: TopicPartition) -> None:
        """Warn that a partition was replaced, and count what is known to have been unread in the former one."""
        _log.warning(
            "topic_replaced",
            topic=tp.topic,
            partition=tp.partition,
            consequence="it is read from its start; records of the former topic that were not read yet are lost",
        )
        self._confirming.discard(tp)
        former = self._confirmed.pop(tp, None)
        if former is not None:
            self._losses.add(former.position.partition, former.lost(), REPLACED)

    async def _ask_committed(self, tps: list[TopicPartition]) -> dict[TopicPartition, OffsetAndMetadata]:
        if not tps:
            return {}
        async with open_admin(self._settings) as admin:
            found: dict[TopicPartition, OffsetAndMetadata] = await admin.list_consumer_group_offsets(
                self._group, partitions=tps
            )
        return found

    async def _restart(self, consumer: AIOKafkaConsumer, tp: TopicPartition) -> None:
        """Release a replaced partition, and read it from its start if it is still assigned to us."""
        self._lose_former(tp)
        partition = self._positions[tp].forget()
        self.unverified.add(tp)  # nothing may be committed meanwhile
        generation = self.generation
        await self._release([tp])
        if generation == self.generation:  # else the group has rebalanced, and the partition must be verified
            self.unverified.discard(tp)
        if tp in consumer.assignment():
            self._positions[tp] = PartitionPosition(partition, -1, "")
            consumer.seek(tp, 0)

    async def _release(self, tps: Sequence[TopicPartition]) -> None:
        if not tps:
            return
        try:
            await self._revoked([self._positions[tp].partition for tp in tps])
        except Exception as error:  # noqa: BLE001  # aiokafka would swallow it; fetch raises it
            self.failure = error
        for tp in tps:
            self._positions.pop(tp, None)
