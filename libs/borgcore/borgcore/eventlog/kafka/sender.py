"""Events into Kafka: idempotent, acknowledged by all replicas in sync, compressed, in order per key.

zstd, because JSON events shrink most by it and every Kafka since 2.1 takes it.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

import anyio
from aiokafka import AIOKafkaProducer

from borgcore.eventlog.kafka.client import address_of, client_options, ensure_topics, named_errors
from borgcore.eventlog.kafka.closing import close_producer
from borgcore.eventlog.protocol import Outgoing, Tell
from borgcore.events.schema import DEAD_LETTER, TOPICS
from borgcore.settings.sections import EventsSettings

BATCH_BYTES = 1 << 19  # before compression; Kafka refuses batches over 1 MiB by default
REQUEST_BYTES = 1 << 24  # Kafka decides how large is too large, by the compressed size


class KafkaSender:
    """Puts events into Kafka.

    aiokafka tries a batch again for ever, and a producer whose sequence numbers are in doubt is of no more use. So
    after any failure the producer is given up, and the next call makes a new one.
    """

    def __init__(self, settings: EventsSettings) -> None:
        """Connect at the first use.

        Raises:
            SettingsError: the URL is wrong.
        """
        self._settings = settings
        self._where = address_of(settings)
        self._producer: AIOKafkaProducer | None = None
        self._sending = anyio.Lock()

    async def send(self, events: Sequence[Outgoing]) -> None:
        """Return when all replicas in sync have all of them; takes at most a few times ``timeout_s``.

        Calls that are made at once take turns: they share the producer, and one that fails takes it from no other.

        Raises:
            EventLogError: they have not; some may have arrived, and all may be sent again.
        """
        async with self._sending:
            try:
                if self._producer is None:
                    self._producer = await self._connect()
                with named_errors(self._where, 2 * self._settings.timeout_s):
                    await self._deliver(self._producer, events)
            except BaseException:  # cancelled in the middle of a reply: of no more use, too
                await self.close()
                raise

    async def report_trimmed(self, tell: Tell) -> Mapping[str, int]:  # noqa: ARG002  # there is nothing to tell
        """Kafka's retention is its own matter: nothing is counted."""
        return {}

    async def close(self) -> None:
        """Give the producer up; what was not acknowledged may have arrived or not."""
        producer, self._producer = self._producer, None
        if producer is not None:
            await close_producer(producer)

    async def _connect(self) -> AIOKafkaProducer:
        await ensure_topics(self._settings, (*TOPICS, DEAD_LETTER))
        producer = AIOKafkaProducer(
            **await client_options(self._settings),
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
                acknowledged.append(await producer.send(prefix + event.topic, event.value, event.key))  # noqa: PERF401  # what was begun must be awaited
        finally:
            outcomes = await asyncio.gather(*acknowledged, return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome


@asynccontextmanager
async def open_kafka_sender(settings: EventsSettings) -> AsyncIterator[KafkaSender]:
    """Make a sender; it connects when it is first used.

    Raises:
        SettingsError: the URL, the certificate file or the credentials are wrong.
    """
    sender = KafkaSender(settings)
    await client_options(settings)  # what is wrong with them is said now, not when the first event is sent
    try:
        yield sender
    finally:
        await sender.close()
