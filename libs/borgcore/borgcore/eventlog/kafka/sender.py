"""Sends events to Kafka: idempotent, acknowledged by all in-sync replicas, compressed, in order per key.

zstd compresses JSON events best, and every Kafka since 2.1 supports it.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

import anyio
from aiokafka import AIOKafkaProducer

from borgcore.errors import SettingsError
from borgcore.eventlog.kafka.client import (
    address_of,
    client_options,
    connect_options,
    ensure_topics,
    file_error,
    log_error,
    named_errors,
)
from borgcore.eventlog.kafka.closing import close_producer
from borgcore.eventlog.kafka.limits import (
    REQUEST_BYTES,
    is_refused,
    is_too_large,
    read_limits,
    refuse,
    refuse_unsent,
)
from borgcore.eventlog.protocol import EventsRefusedError, MakeTrimReport, Outgoing, Refusal
from borgcore.events.topics import DEAD_LETTER, TOPICS
from borgcore.settings.sections import EventsSettings

BATCH_BYTES = 1 << 19  # before compression; Kafka refuses batches over 1 MiB by default
SENT_ALONE = 50  # events in a batch of their own that are waited for together


class KafkaSender:
    """Sends events to Kafka.

    aiokafka retries a batch for ever, and a producer whose sequence numbers are uncertain cannot be used again. So
    after any failure the producer is closed, and the next call makes a new one.
    """

    def __init__(self, settings: EventsSettings) -> None:
        """Connect at the first use only.

        Raises:
            SettingsError: the URL is invalid.
        """
        self._settings = settings
        self._where = address_of(settings)
        self._producer: AIOKafkaProducer | None = None
        self._sending = anyio.Lock()
        self._batch_bytes = BATCH_BYTES

    async def send(self, events: Sequence[Outgoing]) -> None:
        """Return when all in-sync replicas have all events; takes at most a few times ``timeout_s``.

        Concurrent calls take turns, so that one that fails and closes the producer does not fail the others.

        Raises:
            EventsRefusedError: Kafka can never take some of the events, and has all others.
            EventLogError: sending failed; some events may have arrived, and all may be sent again.
        """
        async with self._sending:
            try:
                if self._producer is None:
                    self._producer = await self._connect(self._batch_bytes)
                refusals = await self._send(self._producer, events)
            except SettingsError as error:
                await self.close()
                raise file_error(error, self._where) from error
            except BaseException:  # a cancelled send leaves the producer unusable as well
                await self.close()
                raise
        if refusals:
            raise EventsRefusedError(dict(sorted(refusals.items())))

    async def report_trimmed(self, make_report: MakeTrimReport) -> Mapping[str, int]:  # noqa: ARG002  # unused here
        """Report nothing: Kafka applies its own retention."""
        return {}

    async def close(self) -> None:
        """Close the producer; events that were not acknowledged may or may not have arrived."""
        producer, self._producer = self._producer, None
        if producer is not None:
            await close_producer(producer)

    async def _connect(self, batch_bytes: int, *, idempotent: bool = True) -> AIOKafkaProducer:
        await ensure_topics(self._settings, (*TOPICS, DEAD_LETTER))
        with named_errors(self._where, 2 * self._settings.timeout_s):
            options = await connect_options(self._settings)
        producer = AIOKafkaProducer(
            **options,
            acks="all",
            enable_idempotence=idempotent,
            compression_type="zstd",
            max_batch_size=batch_bytes,
            max_request_size=REQUEST_BYTES,
        )
        try:
            with named_errors(self._where, 2 * self._settings.timeout_s):
                await producer.start()
        except BaseException:
            await close_producer(producer)
            raise
        return producer

    async def _send(self, producer: AIOKafkaProducer, events: Sequence[Outgoing]) -> dict[int, Refusal]:
        """Send events; return why some can never be taken, by row."""
        topics = [self._settings.prefix + event.topic for event in events]
        unsent = map(refuse_unsent, topics, events)
        refusals = {row: refusal for row, refusal in enumerate(unsent) if refusal is not None}
        errors = await self._deliver(producer, events, [row for row in range(len(events)) if row not in refusals])
        if not errors:
            return refusals
        if not any(map(is_refused, errors.values())):
            first = next(iter(errors.values()))
            raise log_error(first, self._where) from first
        await self.close()
        limits = await read_limits(self._settings, {topics[row] for row in errors})
        self._batch_bytes = min(self._batch_bytes, *limits.values()) if limits else self._batch_bytes
        alone = await self._deliver_alone(events, list(errors))
        if not alone and not limits and any(map(is_too_large, errors.values())):
            self._batch_bytes = max(1, self._batch_bytes // 2)  # each event is small enough, but not all in one batch
        return refusals | {
            row: refuse(topics[row], events[row], error, limits.get(topics[row])) for row, error in alone.items()
        }

    async def _deliver_alone(self, events: Sequence[Outgoing], rows: Sequence[int]) -> dict[int, BaseException]:
        """Send events again, each in a batch of its own: Kafka refuses a whole batch for one record.

        The producer is not idempotent: a gap in its sequence numbers would fail the batches behind a refused one.
        """
        refused: dict[int, BaseException] = {}
        producer = await self._connect(1, idempotent=False)
        try:
            for start in range(0, len(rows), SENT_ALONE):
                refused |= await self._deliver(producer, events, rows[start : start + SENT_ALONE])
                for error in refused.values():
                    if not is_refused(error):
                        raise log_error(error, self._where) from error
        finally:
            await close_producer(producer)
        return refused

    async def _deliver(
        self, producer: AIOKafkaProducer, events: Sequence[Outgoing], rows: Sequence[int]
    ) -> dict[int, BaseException]:
        """Send the events at ``rows``; return the errors by row."""
        prefix = self._settings.prefix
        acknowledged: list[asyncio.Future[object]] = []
        with named_errors(self._where, 2 * self._settings.timeout_s):
            try:
                for event in map(events.__getitem__, rows):
                    acknowledged.append(await producer.send(prefix + event.topic, event.value, event.key))  # noqa: PERF401  # sends already begun must be awaited after an error
            finally:
                outcomes = await asyncio.gather(*acknowledged, return_exceptions=True)
        return {row: outcome for row, outcome in zip(rows, outcomes, strict=True) if isinstance(outcome, BaseException)}


@asynccontextmanager
async def open_kafka_sender(settings: EventsSettings) -> AsyncIterator[KafkaSender]:
    """Open a sender; it connects at its first use.

    Raises:
        SettingsError: the URL, the certificate file or the credentials are wrong.
    """
    sender = KafkaSender(settings)
    await client_options(settings)  # raises now rather than at the first event
    try:
        yield sender
    finally:
        await sender.close()
