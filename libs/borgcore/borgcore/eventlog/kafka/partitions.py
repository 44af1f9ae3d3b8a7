"""The partitions assigned to us: how far each was read, and which must be verified before reading on."""

from collections.abc import Collection, Sequence

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRecord, OffsetAndMetadata, TopicPartition

from borgcore.errors import EventLogError
from borgcore.eventlog.kafka.client import address_of, is_refusal, named_errors, open_admin
from borgcore.eventlog.kafka.metadata import TopicId, ask_topic_ids
from borgcore.eventlog.kafka.position import PartitionPosition
from borgcore.eventlog.protocol import Chunk, Partition, Revoked
from borgcore.settings.sections import EventsSettings

SILENCE_MS = 3_000  # a partition without replies for longer may have been replaced

_log = structlog.get_logger()


class AssignedPartitions:
    """The partitions that the group assigned to us; an unverified one delivers nothing until it is verified."""

    def __init__(self, settings: EventsSettings, group: str, revoked: Revoked) -> None:
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
        self._positions: dict[TopicPartition, PartitionPosition] = {}
        self._topic_ids: dict[str, TopicId] = {}
        self._former_ids: set[TopicId] = set()

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
            if topic_id == known or topic_id in self._former_ids:  # a broker may lag behind the others
                continue
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
        return position.deliver(records)

    async def verify(self, consumer: AIOKafkaConsumer) -> None:
        """Seek each unverified partition to its last record, which is read again to verify it, or to its committed end.

        A partition that has become shorter was replaced and is read from its start.

        Raises:
            EventLogError: Kafka refuses us. An outage is no error: the partitions stay unverified.
        """
        present = [tp for tp in self.unverified if tp.partition in (consumer.partitions_for_topic(tp.topic) or ())]
        unknown = [tp for tp in present if tp not in self._positions]
        generation = self.generation
        try:
            with named_errors(self._where, 2 * self._settings.timeout_s):
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
                partition = Partition(tp.topic.removeprefix(self._settings.prefix), tp.partition)
                self._positions[tp] = PartitionPosition(partition, *committed.get(tp, (-1, "")))
            position = self._positions[tp]
            last = position.begin_check()
            if last is None:  # aiokafka may have read ahead, and those records may have been dropped
                consumer.seek(tp, position.committed)
            elif last.position < ends[tp]:
                consumer.seek(tp, last.position)
            else:
                await self._restart(consumer, tp)

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
        _log.warning("topic_replaced", topic=tp.topic, partition=tp.partition, consequence="it is read from its start")
        partition = self._positions[tp].forget()
        await self._release([tp])
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
