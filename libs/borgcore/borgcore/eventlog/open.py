"""Opens the event log at a URL; aiokafka is imported only for a Kafka URL."""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager

from borgcore.eventlog.protocol import Consumer, Revoked, Sender
from borgcore.eventlog.streams.consumer import check_streams, open_stream_consumer
from borgcore.eventlog.streams.sender import open_stream_sender
from borgcore.settings.addresses import is_kafka
from borgcore.settings.sections import EventsSettings


def open_sender(settings: EventsSettings, run: str) -> AbstractAsyncContextManager[Sender]:
    """Open a sender; it connects at its first use.

    Raises:
        SettingsError: the URL is invalid.
    """
    if is_kafka(settings.url):
        from borgcore.eventlog.kafka.sender import open_kafka_sender  # noqa: PLC0415  # the extra kafka

        return open_kafka_sender(settings)
    return open_stream_sender(settings, run)


def open_consumer(
    settings: EventsSettings, run: str, topics: Sequence[str], *, group: str, member: str, revoked: Revoked
) -> AbstractAsyncContextManager[Consumer]:
    """Join ``group`` as ``member``, a name that no other live member has; a successor of the same name takes over.

    ``revoked`` is awaited before partitions go to another member, and its commits still count. Kafka's topics hold the
    events of all runs, Redis' streams those of ``run``.

    Raises:
        SettingsError: the URL is invalid.
        EventLogError: the log cannot be reached or refuses us.
    """
    if is_kafka(settings.url):
        from borgcore.eventlog.kafka.consumer import open_kafka_consumer  # noqa: PLC0415  # the extra kafka

        return open_kafka_consumer(settings, topics, group=group, member=member, revoked=revoked)
    return open_stream_consumer(settings, run, topics, group=group, member=member)


async def check_log(settings: EventsSettings, group: str | None = None) -> str:
    """Verify address, credentials, version and (Kafka) permissions without joining; return a description of the log.

    If ``group`` is given, the permission to read as that group is checked too (Kafka only).

    Raises:
        SettingsError: the URL is invalid.
        EventLogError: the log cannot be reached, refuses us, is too old, or denies a permission that a logshipper
            needs.
    """
    if is_kafka(settings.url):
        from borgcore.eventlog.kafka.check import check_kafka  # noqa: PLC0415  # the extra kafka

        return await check_kafka(settings, group)
    return await check_streams(settings)
