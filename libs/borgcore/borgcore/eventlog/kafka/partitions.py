"""Our partitions: which are ours, how far each was read, and which have to be looked at before they are read on."""

from collections.abc import Collection, Iterable

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRecord, OffsetAndMetadata, TopicPartition

from borgcore.errors import EventLogError
from borgcore.eventlog.kafka.client import address_of, is_refusal, named_errors, open_admin
from borgcore.eventlog.kafka.metadata import TopicId, ask_topic_ids
from borgcore.eventlog.kafka.position import PartitionPosition
from borgcore.eventlog.protocol import Chunk, Partition, Revoked
from borgcore.settings.sections import EventsSettings

SILENCE_MS = 3_000  # a partition not heard of for so long may be another by now

_log = structlog.get_logger()


class AssignedPartitions:
    """The partitions of our partitions; a partition in doubt is not read before it is known again."""

    def __init__(self, settings: EventsSettings, group: str, revoked: Revoked) -> None:
        """Own nothing yet; ``revoked`` is awaited before a partition is let go.

        Raises:
            SettingsError: the URL is wrong.
        """
        self.failure: Exception | None = None
        """What ``revoked`` raised; aiokafka would swallow it."""
        self.doubted: set[TopicPartition] = set()
        """Partitions that may be others of the same name."""
        self._settings = settings
        self._where = address_of(settings)
        self._group = group
        self._revoked = revoked
        self._partitions: dict[TopicPartition, PartitionPosition] = {}
        self._ids: dict[str, TopicId] = {}
        self._former: set[TopicId] = set()

    def known(self) -> dict[TopicPartition, PartitionPosition]:
        """All partitions that were looked at."""
        return dict(self._partitions)

    def find(self, partition: Partition) -> tuple[TopicPartition, PartitionPosition | None]:
        """Find a place by the partition's name without the prefix."""
        tp = TopicPartition(self._settings.prefix + partition.topic, partition.number)
        return tp, self._partitions.get(tp)

    def take_up(self, assigned: Collection[TopicPartition]) -> None:
        """Begin with what the group has given us: all of it is in doubt."""
        self._partitions.clear()
        self.doubted = set(assigned)

    async def let_go(self) -> None:
        """Let the owner of the records finish; later commits are left out."""
        self.doubted = set()  # whoever is looking at them is too late
        await self._let_go(list(self._partitions))

    def hear(self, consumer: AIOKafkaConsumer) -> bool:
        """Take note of replies; partitions that were not heard of for long are in doubt. Tells whether any came."""
        heard = False
        for tp in consumer.assignment() & self._partitions.keys():
            reading, polled_ms = self._partitions[tp], consumer.last_poll_timestamp(tp)
            if polled_ms is None or polled_ms == reading.polled_ms:
                continue
            if reading.polled_ms and polled_ms - reading.polled_ms > SILENCE_MS and reading.last is not None:
                self.doubted.add(tp)
            reading.polled_ms = polled_ms
            heard = True
        return heard

    async def look(self, consumer: AIOKafkaConsumer, topics: Collection[str]) -> None:
        """Look whether our topics are still the same, by their ids; one that is not is read from its start.

        It may have happened some time ago, and records of the new topic may have been delivered: they come again.
        """
        ours = self.doubted
        try:
            with named_errors(self._where, self._settings.timeout_s):
                found = await ask_topic_ids(consumer, topics)
        except EventLogError:  # an outage is said elsewhere
            return
        for topic, now in found.items():
            before = self._ids.setdefault(topic, now)
            if now == before or now in self._former:  # a broker may be behind the others
                continue
            for tp in [tp for tp in self._partitions if tp.topic == topic]:
                if ours is self.doubted:
                    await self._begin_again(consumer, tp)
            if ours is not self.doubted:  # the group has rebalanced meanwhile, or does: the next look does it anew
                return
            self._former.add(before)
            self._ids[topic] = now

    async def deliver(
        self, consumer: AIOKafkaConsumer, tp: TopicPartition, records: list[ConsumerRecord]
    ) -> list[Chunk]:
        """Make a chunk of records; none where they are in doubt, or a last alone."""
        reading = self._partitions.get(tp)
        if reading is None or tp in self.doubted:
            return []
        if reading.is_other(records[0]):
            await self._begin_again(consumer, tp)
            return []
        return reading.deliver(records)

    async def know_again(self, consumer: AIOKafkaConsumer) -> None:
        """Go where reading goes on, and back by one record where it has to be seen that a partition is still the same.

        Raises:
            EventLogError: Kafka refuses us. That it is absent is no error: the partitions stay in doubt.
        """
        doubted = [tp for tp in self.doubted if tp.partition in (consumer.partitions_for_topic(tp.topic) or ())]
        unknown = [tp for tp in doubted if tp not in self._partitions]
        before = self.doubted
        try:
            with named_errors(self._where, 2 * self._settings.timeout_s):
                ends: dict[TopicPartition, int] = await consumer.end_offsets(doubted)
                committed = await self._ask_committed(unknown)
        except EventLogError as error:
            if error.__cause__ is not None and is_refusal(error.__cause__):
                raise
            return
        for tp in doubted:
            if before is not self.doubted:  # the group has rebalanced meanwhile, or does at this turn
                return
            self.doubted.discard(tp)
            if tp in unknown:
                partition = Partition(tp.topic.removeprefix(self._settings.prefix), tp.partition)
                self._partitions[tp] = PartitionPosition(partition, *committed.get(tp, (-1, "")))
            reading = self._partitions[tp]
            last = reading.begin_check()
            if last is None:  # aiokafka may have read ahead, and what it returned may have been dropped
                consumer.seek(tp, reading.committed)
            elif last.position < ends[tp]:
                consumer.seek(tp, last.position)
            else:
                await self._begin_again(consumer, tp)

    async def _ask_committed(self, tps: list[TopicPartition]) -> dict[TopicPartition, OffsetAndMetadata]:
        if not tps:
            return {}
        async with open_admin(self._settings) as admin:
            found: dict[TopicPartition, OffsetAndMetadata] = await admin.list_consumer_group_offsets(
                self._group, partitions=tps
            )
        return found

    async def _begin_again(self, consumer: AIOKafkaConsumer, tp: TopicPartition) -> None:
        _log.warning("topic_replaced", topic=tp.topic, partition=tp.partition, consequence="it is read from its start")
        partition = self._partitions[tp].forget()
        await self._let_go([tp])
        if tp in consumer.assignment():
            self._partitions[tp] = PartitionPosition(partition, -1, "")
            consumer.seek(tp, 0)

    async def _let_go(self, tps: Iterable[TopicPartition]) -> None:
        partitions = {tp: self._partitions[tp] for tp in tps}
        if not partitions:
            return
        try:
            await self._revoked([reading.partition for reading in partitions.values()])
        except Exception as error:  # noqa: BLE001  # aiokafka would swallow it: fetch raises it
            self.failure = error
        for tp in partitions:
            self._partitions.pop(tp, None)
