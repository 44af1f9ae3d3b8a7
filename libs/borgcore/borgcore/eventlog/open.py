"""Which log: the URL says."""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager

from borgcore.events.kafka_check import check_kafka
from borgcore.events.kafka_consumer import open_kafka_consumer
from borgcore.events.kafka_sender import open_kafka_sender
from borgcore.events.log import Consumer, Revoked, Sender
from borgcore.events.stream_consumer import check_streams, open_stream_consumer
from borgcore.events.stream_sender import open_stream_sender
from borgcore.sections import EventsSettings


def open_sender(settings: EventsSettings, run: str) -> AbstractAsyncContextManager[Sender]:
    """Open a sender; it connects when it is first used.

    Raises:
        SettingsError: the URL is wrong.
    """
    return open_kafka_sender(settings) if is_kafka(settings.url) else open_stream_sender(settings, run)


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
        return open_kafka_consumer(settings, topics, group=group, member=member, revoked=revoked)
    return open_stream_consumer(settings, run, topics, group=group, member=member)


async def check_log(settings: EventsSettings, group: str | None = None) -> str:
    """Verify address, credentials, version and, of Kafka, permissions without joining; returns the log in words.

    Kafka is asked whether it lets us read as ``group``, where one is given.

    Raises:
        SettingsError: the URL is wrong.
        EventLogError: the log is absent, refuses us, is too old, or does not permit what a logshipper needs.
    """
    return await (check_kafka(settings, group) if is_kafka(settings.url) else check_streams(settings))


def is_kafka(url: str) -> bool:
    """Whether a URL names Kafka."""
    return url.startswith(("kafka://", "kafka+ssl://"))
