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
_TRIM, _LOOK = (
    resources.files("borgcore.eventlog.streams").joinpath(f"{name}.lua").read_text(encoding="utf-8")
    for name in ("trim", "look")
)
FAILURES = (RedisError, OSError)
KEEPS_ALL = "noeviction"
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
    server = RedisSettings(
        url=settings.url,
        user=settings.user,
        password=settings.password,
        ca_file=settings.ca_file,
        timeout_s=settings.timeout_s,
        outage_s=_AT_ONCE_S,
    )
    return server.bind(None if settings.source is None else settings.source.convert(redis_settings))


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


class Trims:
    """Calls trim.lua and remembers each stream's account, so that a server that has lost everything is noticed."""

    def __init__(self, keys: RunKeys, group: str = "") -> None:
        """A reader's ``group`` takes the counts of entries that others removed."""
        self._keys = keys
        self._group = group
        self._accounts: dict[str, bytes] = {}

    def add(self, pipe: Pipeline, topic: str, cap: int) -> None:
        """Add a call to the pipeline; with ``cap`` 0 it only removes acknowledged entries."""
        keys = (self._keys.events(topic), self._keys.events_trimmed, self._keys.events_accounts)
        pipe.eval(_TRIM, len(keys), *keys, topic, str(cap), self._accounts.get(topic, b""), self._group)

    def take(self, topic: str, reply: Sequence[Any]) -> int:
        """Remember the account in a reply; return how many entries others removed."""
        self._accounts[topic], lost = reply
        return int(lost)

    def first(self, topic: str) -> str:
        """Return the id of a stream's first entry at the last trim; "-" if it had none."""
        return self._accounts[topic].rpartition(b" ")[2].decode()


async def count_backlog(redis: Redis, keys: RunKeys, topics: Sequence[str], group: str) -> int:
    """Count the entries that a group has not acknowledged: pending ones and those not delivered yet.

    The latter are the server's ``lag``, or the length of the stream if the server does not know it. After trims that
    may be too many, but it is 0 exactly when no entry is left.
    """
    return sum((await count_unread(redis, keys, topics, group)).values())


async def count_unread(redis: Redis, keys: RunKeys, topics: Sequence[str], group: str) -> dict[str, int]:
    """Count as :func:`count_backlog`, by topic."""
    pipe = redis.pipeline(transaction=False)
    for topic in topics:
        pipe.eval(_LOOK, 1, keys.events(topic), group)
    return {topic: _left(*look) for topic, look in zip(topics, await execute(pipe), strict=True)}


async def find_evicting(redis: Redis) -> str | None:
    """Return why the server may evict unread events, or None if it evicts nothing."""
    memory: dict[str, Any] = await redis.info("memory")
    policy = str(memory.get("maxmemory_policy", KEEPS_ALL))
    if policy == KEEPS_ALL or not int(memory.get("maxmemory", 0)):
        return None
    return (
        f"Redis at {address_of(redis)} has maxmemory-policy {policy}, which would evict events that nobody has read; "
        f"expected {KEEPS_ALL}"
    )


async def check_policy(redis: Redis) -> None:
    """Refuse a server that would evict events.

    Raises:
        SettingsError: its policy is not noeviction.
    """
    if (reason := await find_evicting(redis)) is not None:
        raise SettingsError(f"event log: {reason}")


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
