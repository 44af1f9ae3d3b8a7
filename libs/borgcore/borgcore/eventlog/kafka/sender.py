"""Sends events to Kafka: idempotent, acknowledged by all in-sync replicas, compressed, in order per key.

zstd compresses JSON events best, and every Kafka since 2.1 supports it.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

import anyio
from aiokafka import AIOKafkaProducer

from borgcore.eventlog.kafka.client import address_of, client_options, connect_options, ensure_topics, named_errors
from borgcore.eventlog.kafka.closing import close_producer
from borgcore.eventlog.protocol import MakeTrimReport, Outgoing
from borgcore.events.topics import DEAD_LETTER, TOPICS
from borgcore.settings.sections import EventsSettings

BATCH_BYTES = 1 << 19  # before compression; Kafka refuses batches over 1 MiB by default
REQUEST_BYTES = 1 << 24  # no limit of ours: Kafka applies its own to the compressed size


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

    async def send(self, events: Sequence[Outgoing]) -> None:
        """Return when all in-sync replicas have all events; takes at most a few times ``timeout_s``.

        Concurrent calls take turns, so that one that fails and closes the producer does not fail the others.

        Raises:
            EventLogError: sending failed; some events may have arrived, and all may be sent again.
        """
        async with self._sending:
            try:
                if self._producer is None:
                    self._producer = await self._connect()
                with named_errors(self._where, 2 * self._settings.timeout_s):
                    await self._deliver(self._producer, events)
            except BaseException:  # a cancelled send leaves the producer unusable as well
                await self.close()
                raise

    async def report_trimmed(self, make_report: MakeTrimReport) -> Mapping[str, int]:  # noqa: ARG002  # unused here
        """Report nothing: Kafka applies its own retention."""
        return {}

    async def close(self) -> None:
        """Close the producer; events that were not acknowledged may or may not have arrived."""
        producer, self._producer = self._producer, None
        if producer is not None:
            await close_producer(producer)

    async def _connect(self) -> AIOKafkaProducer:
        await ensure_topics(self._settings, (*TOPICS, DEAD_LETTER))
        with named_errors(self._where, 2 * self._settings.timeout_s):
            options = await connect_options(self._settings)
        producer = AIOKafkaProducer(
            **options,
            acks="all",
            enable_idempotence=True,
            compression_type="zstd",
            max_batch_size=BATCH_BYTES,
            max_request_size=REQUEST_BYTES,
        )
        try:
            with named_errors(self._where, 2 * self._settings.timeout_s):
                await producer.start()
        except BaseException:
            await close_producer(producer)
            raise
        return producer

    async def _deliver(self, producer: AIOKafkaProducer, events: Sequence[Outgoing]) -> None:
        prefix = self._settings.prefix
        acknowledged: list[asyncio.Future[object]] = []
        try:
            for event in events:
                acknowledged.append(await producer.send(prefix + event.topic, event.value, event.key))  # noqa: PERF401  # sends already begun must be awaited after an error
        finally:
            outcomes = await asyncio.gather(*acknowledged, return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome


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
