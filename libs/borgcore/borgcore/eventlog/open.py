"""Open the event log that a URL names; aiokafka is imported only where it names Kafka."""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager

from borgcore.eventlog.protocol import Consumer, Revoked, Sender
from borgcore.eventlog.streams.consumer import check_streams, open_stream_consumer
from borgcore.eventlog.streams.sender import open_stream_sender
from borgcore.settings.addresses import is_kafka
from borgcore.settings.sections import EventsSettings


def open_sender(settings: EventsSettings, run: str) -> AbstractAsyncContextManager[Sender]:
    """Open a sender; it connects when it is first used.

    Raises:
        SettingsError: the URL is wrong.
    """
    if is_kafka(settings.url):
        from borgcore.eventlog.kafka.sender import open_kafka_sender  # noqa: PLC0415  # the extra kafka

        return open_kafka_sender(settings)
    return open_stream_sender(settings, run)


def open_consumer(
    settings: EventsSettings, run: str, topics: Sequence[str], *, group: str, member: str, revoked: Revoked
) -> AbstractAsyncContextManager[Consumer]:
    """Join ``group`` as ``member``, a name that no other living member has; under the same name a successor takes over.

    ``revoked`` is awaited before partitions go to another member: what it commits still counts. Kafka's topics hold the
    events of all runs, Redis' streams those of ``run``.

    Raises:
        SettingsError: the URL is wrong.
        EventLogError: the log is absent or refuses us.
    """
    if is_kafka(settings.url):
        from borgcore.eventlog.kafka.consumer import open_kafka_consumer  # noqa: PLC0415  # the extra kafka

        return open_kafka_consumer(settings, topics, group=group, member=member, revoked=revoked)
    return open_stream_consumer(settings, run, topics, group=group, member=member)


async def check_log(settings: EventsSettings, group: str | None = None) -> str:
    """Verify address, credentials, version and, of Kafka, permissions without joining; returns the log in words.

    Kafka is asked whether it lets us read as ``group``, where one is given.

    Raises:
        SettingsError: the URL is wrong.
        EventLogError: the log is absent, refuses us, is too old, or does not permit what a logshipper needs.
    """
    if is_kafka(settings.url):
        from borgcore.eventlog.kafka.check import check_kafka  # noqa: PLC0415  # the extra kafka

        return await check_kafka(settings, group)
    return await check_streams(settings)
