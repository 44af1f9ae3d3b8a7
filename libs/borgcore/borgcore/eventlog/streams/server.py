"""Shared by sender and consumer of Redis Streams: the server, its errors, trimming and the backlog."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from importlib import resources
from typing import Any, TypeVar

from redis.asyncio import Redis
from redis.asyncio.client import Pipeline
from redis.exceptions import RedisError

from borgcore.connection.client import address_of, open_redis
from borgcore.connection.failures import server_error
from borgcore.errors import EventLogError, ServerError, SettingsError
from borgcore.events.topics import TOPICS
from borgcore.run.keys import RunKeys
from borgcore.settings.addresses import read_address
from borgcore.settings.sections import EventsSettings, RedisSettings

FIELD = b"v"
"""The one field of an entry: the event as JSON."""
TRIM, _LOOK = (
    resources.files("borgcore.eventlog.streams").joinpath(f"{name}.lua").read_text(encoding="utf-8")
    for name in ("trim", "look")
)
FAILURES = (RedisError, OSError)
T = TypeVar("T")
_SCHEMES = ("redis://", "rediss://", "unix://")
_AT_ONCE_S = 0.001  # a read repeated by the client would lose the entries of the first reply


def redis_settings(settings: EventsSettings) -> RedisSettings:
    """Return the settings of an event log's server; its client repeats no call, which is left to the caller.

    Raises:
        SettingsError: the URL is invalid.
    """
    if not settings.url.startswith(_SCHEMES):
        raise SettingsError(
            "events url: its scheme is none of kafka://, kafka+ssl://, redis://, rediss:// and unix://; "
            "nothing was started"
        )
    try:
        read_address(settings.url)
    except ValueError as error:
        text = str(error).replace("BORG_REDIS_PASSWORD", "BORG_EVENTS_PASSWORD")
        raise SettingsError(f"events url: {text}") from None
    return RedisSettings(
        url=settings.url,
        password=settings.password,
        ca_file=settings.ca_file,
        timeout_s=settings.timeout_s,
        outage_s=_AT_ONCE_S,
    )


def log_error(error: BaseException, address: str) -> EventLogError:
    """Turn an error of redis-py into one line that names the server and the cause."""
    found = error if isinstance(error, ServerError) else server_error(error, address)
    own = "BORG_EVENTS_PASSWORD, or BORG_REDIS_PASSWORD if the log has no URL of its own"
    return EventLogError(f"event log: {found}".replace("BORG_REDIS_PASSWORD", own))


@asynccontextmanager
async def open_log(settings: EventsSettings) -> AsyncIterator[Redis]:
    """Connect to the server of an event log.

    Raises:
        SettingsError: the URL is invalid or the certificate file is missing.
        EventLogError: the server cannot be reached, refuses us, is a read-only replica or too old.
    """
    server = redis_settings(settings)
    async with AsyncExitStack() as stack:
        try:
            redis = await stack.enter_async_context(open_redis(server))
        except ServerError as error:
            raise log_error(error, server.address) from error
        yield redis


async def execute(pipe: Pipeline) -> list[Any]:
    """Send the collected commands in one round trip; raise the first error reply as it is, without the values sent."""
    replies: list[Any] = await pipe.execute(raise_on_error=False)
    for reply in replies:
        if isinstance(reply, Exception):
            raise reply
    return replies


def trim(pipe: Pipeline, keys: RunKeys, topic: str, cap: int) -> None:
    """Add a call of trim.lua to the pipeline; with ``cap`` 0 it only removes acknowledged entries."""
    pipe.eval(TRIM, 2, keys.events(topic), keys.events_trimmed, topic, str(cap))


async def count_backlog(redis: Redis, keys: RunKeys, topics: Sequence[str], group: str) -> int:
    """Count the entries that a group has not acknowledged: pending ones and those not delivered yet.

    The latter are the server's ``lag``, or the length of the stream if the server does not know it. After trims that
    may be too many, but it is 0 exactly when no entry is left.
    """
    pipe = redis.pipeline(transaction=False)
    for topic in topics:
        pipe.eval(_LOOK, 1, keys.events(topic), group)
    return sum(_left(*look) for look in await execute(pipe))


def _left(length: int, newest: bytes, pending: int, delivered: bytes, lag: int) -> int:
    if pending < 0:
        return length
    unread = 0
    if newest and _order(newest) > _order(delivered):
        unread = length if lag < 0 else max(1, min(lag, length))
    return pending + unread


def _order(entry: bytes) -> tuple[int, int]:
    ms, _, number = entry.partition(b"-")
    return int(ms), int(number)


async def backlog(redis: Redis, run: str, group: str) -> int:
    """Count the events of a run that a group has not acknowledged yet.

    Raises:
        EventLogError: the server did not answer, or refuses us.
    """
    try:
        return await count_backlog(redis, RunKeys(run), TOPICS, group)
    except FAILURES as error:
        raise log_error(error, address_of(redis)) from error
