"""Our place in a consumer group: a static one, kept over restarts for whoever comes back under its name."""

import asyncio
import time
from collections.abc import Collection, Sequence

import anyio
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.coordinator.protocol import ConsumerProtocol

from borgcore.errors import EventLogError
from borgcore.eventlog.kafka.client import address_of, client_options, named_errors, open_admin
from borgcore.eventlog.kafka.closing import close_consumer
from borgcore.eventlog.kafka.partitions import AssignedPartitions
from borgcore.settings.sections import EventsSettings

SESSION_S = 30.0  # a member that comes back within it finds its partitions kept for it
HEARTBEAT_S = 1.0  # how soon a member learns of a rebalance
REBALANCE_S = 30.0  # for the members' drains
NEVER_MS = (1 << 31) - 1  # heartbeats show that we live; a store that is away for days must not cost the membership
METADATA_AGE_S = 3.0  # how soon new partitions are seen
FETCH_BYTES = 1 << 21  # of one partition in one reply
LOOK_S = 1.0  # between two looks at what the topics are made of
PATIENCE_S = 3.0  # for the group's leader to act on a change of them; doubled where joining anew did not help
_UUID_CHARACTERS = 37  # Kafka gives a member its name, a dash and these as its id


class GroupMembership(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types
    """Joins, rejoins where aiokafka would not, and gives way to a successor of the same name."""

    def __init__(self, settings: EventsSettings, group: str, member: str, partitions: AssignedPartitions) -> None:
        """Let ``partitions`` know which partitions are ours.

        Raises:
            SettingsError: the URL is wrong.
        """
        self.settled = anyio.Event()
        """Set while the group does not rebalance; another one each time."""
        self.failure: Exception | None = None
        """Why we are no member any more."""
        self._settings = settings
        self._where = address_of(settings)
        self._group = group
        self._member = member
        self._partitions = partitions
        self._consumer: AIOKafkaConsumer | None = None
        self._topics: Sequence[str] = ()
        self._owned: set[TopicPartition] | None = None
        self._looked_s = 0.0
        self._whole_s = 0.0
        self._patience_s = PATIENCE_S
        self._member_id = ""

    @property
    def consumer(self) -> AIOKafkaConsumer:
        """The client, after :meth:`join`."""
        assert self._consumer is not None  # noqa: S101  # a defect of ours
        return self._consumer

    async def join(self, topics: Sequence[str]) -> None:
        """Join the group; ``topics`` are full names and exist.

        Raises:
            EventLogError: Kafka is absent or refuses us.
        """
        self._topics = topics
        # a join is answered when all members have drained, so the longest wait for a reply is longer than that
        options = await client_options(self._settings, REBALANCE_S + self._settings.timeout_s)
        self._consumer = consumer = AIOKafkaConsumer(
            **options,
            group_id=self._group,
            group_instance_id=self._member,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            session_timeout_ms=round(SESSION_S * 1000),
            heartbeat_interval_ms=round(HEARTBEAT_S * 1000),
            rebalance_timeout_ms=round(REBALANCE_S * 1000),
            max_poll_interval_ms=NEVER_MS,
            metadata_max_age_ms=round(METADATA_AGE_S * 1000),
            max_partition_fetch_bytes=FETCH_BYTES,
        )
        consumer.subscribe(topics, listener=self)
        with named_errors(self._where, REBALANCE_S + 3 * self._settings.timeout_s):
            await consumer.start()

    async def leave(self) -> None:
        """Close within bounds; the place in the group is kept for ``SESSION_S``."""
        if self._consumer is not None:
            await close_consumer(self._consumer)

    async def watch(self) -> None:
        """Look now and then whether the topics are the same, and have as many partitions.

        Join anew where not all partitions have an owner, and the group's leader does nothing about it.
        A leader that comes back under its name gets the partitions that it had, whatever its topics are made of by now;
        and it is no leader in aiokafka's eyes, though it still is in Kafka's.
        """
        now = time.monotonic()
        if now - self._looked_s < LOOK_S:
            return
        self._looked_s = now
        await self._partitions.look(self.consumer, self._topics)
        if self._owned is None:
            self._owned = await self._ask_owned()
        if self._owned is None or self._owned == self._look():
            self._whole_s = now
            self._patience_s = max(PATIENCE_S, self._patience_s / 2)
        elif now - self._whole_s > self._patience_s:
            self._patience_s *= 2
            self.settled = anyio.Event()
            await self._partitions.let_go()
            self.consumer.subscribe(self._topics, listener=self)

    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:  # noqa: ARG002  # always all
        """Let go: aiokafka is about to join, for the first time, as the group rebalances, or as it was thrown out."""
        self.settled = anyio.Event()
        if not self._member_id:
            return
        if await self._is_replaced():
            self.failure = EventLogError(
                f"{self._where} has given our place in the group {self._group} to another member of the name "
                f"{self._member}; the names of members are to be unique; this one ends"
            )
            raise asyncio.CancelledError  # nothing else keeps aiokafka from taking the place back
        await self._partitions.let_go()

    async def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        """Begin: aiokafka has joined."""
        self._member_id = self.consumer._coordinator.member_id  # noqa: SLF001  # it is told nowhere else
        self._owned, self._whole_s = None, time.monotonic()
        self._partitions.take_up(assigned)
        self.settled.set()

    def _look(self) -> set[TopicPartition]:
        consumer = self.consumer
        return {
            TopicPartition(topic, number)
            for topic in self._topics
            for number in consumer.partitions_for_topic(topic) or ()
        }

    async def _is_replaced(self) -> bool:
        _, members = await self._describe()  # without an answer the successor is thrown out, looks, and gives way
        return any(found[:-_UUID_CHARACTERS] == self._member and found != self._member_id for found in members)

    async def _ask_owned(self) -> set[TopicPartition] | None:
        """Ask which partitions of our topics have an owner; None while it is not known."""
        state, members = await self._describe()
        if state != "Stable":
            return None
        shares = [ConsumerProtocol.ASSIGNMENT.decode(share).partitions() for share in members.values() if share]
        return {partition for share in shares for partition in share if partition.topic in self._topics}

    async def _describe(self) -> tuple[str, dict[str, bytes]]:
        """Ask for the group's state, and its members' ids with their shares."""
        try:
            with named_errors(self._where, self._settings.timeout_s):
                async with open_admin(self._settings) as admin:
                    [reply] = await admin.describe_consumer_groups([self._group])
        except EventLogError:  # an outage is said elsewhere
            return "unknown", {}
        [(_, _, state, _, _, members, *_)] = reply.groups
        return state, {member_id: share for member_id, _, _, _, share in members}
