"""Compares unread records with the retention of their topics, so that a warning comes before they are deleted."""

import time
from collections.abc import Collection, Mapping

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition

from borgcore.errors import EventLogError
from borgcore.eventlog.kafka.client import address_of, named_errors
from borgcore.eventlog.kafka.losses import LossCounter
from borgcore.eventlog.kafka.position import PartitionPosition
from borgcore.eventlog.kafka.retention import TopicRetention, ask_retention, ask_sizes, compaction_warning
from borgcore.eventlog.protocol import RetentionUse
from borgcore.settings.sections import EventsSettings

PERIOD_S = 60.0  # between two questions for the topics' settings
_log = structlog.get_logger()


class RetentionWatch:
    """The retention of our topics, and how much of it unread records have used."""

    def __init__(self, settings: EventsSettings, losses: LossCounter) -> None:
        """Tell ``losses`` which topics are compacted.

        Raises:
            SettingsError: the URL is invalid.
        """
        self._settings = settings
        self._where = address_of(settings)
        self._losses = losses
        self._retention: dict[str, TopicRetention] = {}
        self._asked_s = -PERIOD_S
        self._logged = False

    async def refresh(self, consumer: AIOKafkaConsumer, topics: Collection[str]) -> None:
        """Ask for the topics' settings, once per ``PERIOD_S``; without an answer the previous ones hold."""
        now = time.monotonic()
        if now - self._asked_s < PERIOD_S:
            return
        self._asked_s = now
        try:
            with named_errors(self._where, self._settings.timeout_s):
                found = await ask_retention(consumer._client, topics)  # noqa: SLF001  # there is no public API
        except EventLogError:  # KafkaOutage logs an outage
            return
        self._retention |= found
        compacted = [topic for topic, retention in self._retention.items() if retention.compacted]
        self._losses.compacted = {topic.removeprefix(self._settings.prefix) for topic in compacted}
        if len(found) < len(topics) and not self._logged:
            self._logged = True
            _log.warning(
                "retention_unknown",
                topics=sorted(set(topics) - found.keys()),
                reason="this user may not describe the topics' configuration",
                consequence="no warning before unread records are deleted",
            )

    async def use(
        self,
        consumer: AIOKafkaConsumer,
        positions: Mapping[TopicPartition, PartitionPosition],
        unread: Mapping[TopicPartition, float],
    ) -> RetentionUse:
        """Return the most used limit; ``unread`` is the share of each partition's offsets that is not committed.

        Raises:
            KafkaError: Kafka did not answer.
        """
        uses = [RetentionUse()]
        bounded = [tp for tp in positions if unread[tp] and self._limit_of(tp).size_bytes >= 0]
        sizes = await self._ask_sizes(consumer, bounded)
        for tp, position in positions.items():
            name, limit = f"{tp.topic}-{tp.partition}", self._limit_of(tp)
            if limit.compacted:
                uses.append(RetentionUse(1.0, compaction_warning(tp.topic)))
            if limit.ms >= 0 and position.oldest_ms is not None:
                age_s, limit_s = time.time() - position.oldest_ms / 1000, limit.ms / 1000
                text = f"the oldest unread record of {name} is {age_s:.0f} s old; retention.ms is {limit_s:.0f} s"
                uses.append(RetentionUse(age_s / max(limit_s, 0.001), text))
            if tp in sizes:
                size = round(sizes[tp] * unread[tp])
                text = f"about {size} bytes of {name} are unread; retention.bytes is {limit.size_bytes}"
                uses.append(RetentionUse(size / max(limit.size_bytes, 1), text))
        return max(uses, key=lambda use: use.share)

    def _limit_of(self, tp: TopicPartition) -> TopicRetention:
        return self._retention.get(tp.topic, TopicRetention(-1, -1, compacted=False))

    async def _ask_sizes(
        self, consumer: AIOKafkaConsumer, tps: Collection[TopicPartition]
    ) -> Mapping[TopicPartition, int]:
        if not tps:
            return {}
        sizes: dict[TopicPartition, int] = await ask_sizes(consumer._client, tps)  # noqa: SLF001  # see above
        return {tp: sizes[tp] for tp in tps if tp in sizes}
