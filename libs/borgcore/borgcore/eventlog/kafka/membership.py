"""Static membership in a consumer group, kept across restarts for a successor of the same name."""

import asyncio
import time
from collections.abc import Collection, Sequence
from contextlib import suppress

import anyio
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.coordinator.protocol import ConsumerProtocol

from borgcore.errors import EventLogError, SettingsError
from borgcore.eventlog.kafka.client import address_of, connect_options, named_errors, open_admin, renew_login
from borgcore.eventlog.kafka.closing import close_consumer
from borgcore.eventlog.kafka.partitions import AssignedPartitions
from borgcore.settings.sections import EventsSettings

SESSION_S = 30.0  # how long a missing member keeps its partitions
HEARTBEAT_S = 1.0  # how soon a member notices a rebalance
REBALANCE_S = 30.0  # for the members to drain their partitions
NEVER_MS = (1 << 31) - 1  # heartbeats keep us alive; an outage of the store for days must not end the membership
METADATA_AGE_S = 3.0  # how soon new partitions are noticed
FETCH_BYTES = 1 << 21  # of one partition in one reply
CHECK_S = 1.0  # between two checks of the topics
PATIENCE_S = 3.0  # for the leader to assign all partitions; doubled while rejoining does not help
_UUID_CHARACTERS = 37  # a member id is the name, a dash and a UUID


class GroupMembership(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types
    """Joins, rejoins when aiokafka would not, and yields to a successor of the same name."""

    def __init__(self, settings: EventsSettings, group: str, member: str, partitions: AssignedPartitions) -> None:
        """Keep ``partitions`` up to date with the assignment.

        Raises:
            SettingsError: the URL is invalid.
        """
        self.settled = anyio.Event()
        """Set while the group does not rebalance; replaced at each rebalance."""
        self.failure: Exception | None = None
        """Why the membership has ended."""
        self._settings = settings
        self._where = address_of(settings)
        self._group = group
        self._member = member
        self._partitions = partitions
        self._consumer: AIOKafkaConsumer | None = None
        self._topics: Sequence[str] = ()
        self._owned: set[TopicPartition] | None = None
        self._checked_s = 0.0
        self._complete_s = 0.0
        self._patience_s = PATIENCE_S
        self._member_id = ""

    @property
    def consumer(self) -> AIOKafkaConsumer:
        """The client, after :meth:`join`."""
        assert self._consumer is not None  # noqa: S101  # a bug if it fails
        return self._consumer

    async def join(self, topics: Sequence[str]) -> None:
        """Join the group; ``topics`` are full names and exist.

        Raises:
            EventLogError: Kafka cannot be reached or refuses us.
        """
        self._topics = topics
        # Kafka answers a join when all members have drained, so wait longer than that for a reply
        with named_errors(self._where, 2 * self._settings.timeout_s):
            options = await connect_options(self._settings, REBALANCE_S + self._settings.timeout_s)
        self._consumer = consumer = AIOKafkaConsumer(
            **options,
            group_id=self._group,
            group_instance_id=self._member,
            enable_auto_commit=False,
            auto_offset_reset="none",  # AssignedPartitions decides, and counts what was deleted
            isolation_level="read_committed",  # records of aborted transactions never happened
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
        """Close in bounded time; the group keeps our partitions for ``SESSION_S``."""
        if self._consumer is not None:
            await close_consumer(self._consumer)

    async def renew_login(self) -> None:
        """Use the login as last read for new connections; aiokafka opens them by itself and would use the first one."""
        with suppress(SettingsError):  # the certificate file is being replaced
            await renew_login(self.consumer._client, self._settings)  # noqa: SLF001  # there is no public API

    async def watch(self) -> None:
        """Check, once per ``CHECK_S``, whether topics were replaced and whether all partitions have an owner.

        Rejoin if some have none and the group's leader does nothing about it. That happens after the leader restarts:
        it gets back the partitions that it had, even if its topics have more by now, and while Kafka still considers it
        the leader, aiokafka does not.
        """
        now = time.monotonic()
        if now - self._checked_s < CHECK_S:
            return
        self._checked_s = now
        await self._partitions.check_topic_ids(self.consumer, self._topics)
        if self._owned is None:
            self._owned = await self._ask_owned()
        if self._owned is None or self._owned == self._existing():
            self._complete_s = now
            self._patience_s = max(PATIENCE_S, self._patience_s / 2)
        elif now - self._complete_s > self._patience_s:
            self._patience_s *= 2
            self.settled = anyio.Event()
            await self._partitions.release()
            self.consumer.subscribe(self._topics, listener=self)

    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:  # noqa: ARG002  # always all
        """Release all partitions: aiokafka is about to join, at first, in a rebalance, or after it was expelled."""
        self.settled = anyio.Event()
        if not self._member_id:
            return
        if await self._is_replaced():
            self.failure = EventLogError(
                f"{self._where} has given our membership in the group {self._group} to another member named "
                f"{self._member}; expected unique names; this member ends"
            )
            raise asyncio.CancelledError  # nothing else keeps aiokafka from rejoining
        await self._partitions.release()

    async def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        """Take the assigned partitions: aiokafka has joined."""
        self._member_id = self.consumer._coordinator.member_id  # noqa: SLF001  # there is no public API
        self._owned, self._complete_s = None, time.monotonic()
        self._partitions.assign(assigned)
        self.settled.set()

    def _existing(self) -> set[TopicPartition]:
        consumer = self.consumer
        return {
            TopicPartition(topic, number)
            for topic in self._topics
            for number in consumer.partitions_for_topic(topic) or ()
        }

    async def _is_replaced(self) -> bool:
        _, members = await self._describe()  # without an answer we rejoin, and the successor yields
        return any(found[:-_UUID_CHARACTERS] == self._member and found != self._member_id for found in members)

    async def _ask_owned(self) -> set[TopicPartition] | None:
        """Return the partitions of our topics that have an owner; None while that is unknown."""
        state, members = await self._describe()
        if state != "Stable":
            return None
        owned = [ConsumerProtocol.ASSIGNMENT.decode(found).partitions() for found in members.values() if found]
        return {partition for partitions in owned for partition in partitions if partition.topic in self._topics}

    async def _describe(self) -> tuple[str, dict[str, bytes]]:
        """Return the group's state, and its members' assignments by member id."""
        try:
            with named_errors(self._where, self._settings.timeout_s):
                async with open_admin(self._settings) as admin:
                    [reply] = await admin.describe_consumer_groups([self._group])
        except (EventLogError, SettingsError):  # KafkaOutage logs an outage
            return "unknown", {}
        [(_, _, state, _, _, members, *_)] = reply.groups
        return state, {member_id: assignment for member_id, _, _, _, assignment in members}
