"""Connections to Redis or Valkey, bounded in time and number; calls are retried through outages."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import anyio
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ReadOnlyError, RedisError

from borgcore.connection.failures import is_outage, server_error
from borgcore.connection.login import connection_options
from borgcore.connection.retry import Outage, retry_through_outage
from borgcore.errors import ServerError, SettingsError
from borgcore.settings.addresses import read_address
from borgcore.settings.sections import RedisSettings

MAX_CONNECTIONS = 32
CLOSE_TIMEOUT_S = 2.0
REDIS_OLDEST = 7  # the first version with FUNCTION
VALKEY_OLDEST = 8


class BorgRedis(Redis):
    """redis-py's client with retries bounded in time; an outage is logged once, however many calls it fails."""

    def __init__(self, *, connection_pool: BlockingConnectionPool, address: str, retry_for_s: float) -> None:
        """Name the server ``address`` in logs; give a call up ``retry_for_s`` after it first failed."""
        super().__init__(connection_pool=connection_pool)
        self.auto_close_connection_pool = False
        self.address = address
        self.retry_for_s = retry_for_s
        self._outage = Outage("redis_lost", "redis_regained", address=address)

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """Send one command; it is sent again after a lost connection, so the server may execute it twice."""
        try:
            reply = await super().execute_command(*args, **options)  # type: ignore[no-untyped-call]
        except RedisError as error:
            if not is_outage(error):
                raise
            failed = error
        else:
            if self._outage.error is not None:
                self._outage.end()
            return reply
        return await retry_through_outage(
            partial(super().execute_command, *args, **options),
            is_outage=is_outage,
            give_up_after_s=self.retry_for_s,
            outage=self._outage,
            failed=failed,
        )


def address_of(redis: Redis) -> str:
    """Return the address of a client's server, without secrets."""
    if isinstance(redis, BorgRedis):
        return redis.address
    found = redis.connection_pool.connection_kwargs
    return str(found.get("path") or f"{found.get('host', 'localhost')}:{found.get('port', 6379)}")


def _check_url(settings: RedisSettings) -> None:
    try:
        read_address(settings.url)
    except ValueError as error:
        raise SettingsError(f"redis url: {error}") from None


def make_pool(settings: RedisSettings) -> BlockingConnectionPool:
    """Prepare connections, bounded in number and time. Blocks on the certificate file, so call it in a thread.

    Raises:
        SettingsError: the certificate file is missing.
    """
    options: dict[str, Any] = {
        "max_connections": MAX_CONNECTIONS,
        "timeout": settings.timeout_s,  # of the wait for a free connection
        "socket_timeout": settings.timeout_s,
        "retry": Retry(NoBackoff(), 0),  # BorgRedis retries
        "driver_info": None,  # otherwise every new connection reads redis-py's version from disk
        "protocol": 2,  # a server too old for RESP3 must still be able to report its version
    }
    scheme = urlsplit(settings.url).scheme
    if scheme != "unix":
        options |= {"socket_connect_timeout": settings.connect_timeout_s, "socket_keepalive": True}
    if scheme == "rediss" and settings.ca_file is not None and not settings.ca_file.is_file():
        raise SettingsError(f"redis ca_file: {settings.ca_file} is no file; expected a PEM certificate authority")
    return BlockingConnectionPool(**options, **connection_options(settings, settings.url))


def _major(version: object) -> int:
    head = str(version).partition(".")[0]
    return int(head) if head.isdigit() else 0


async def _check_server(redis: Redis, address: str) -> None:
    """Raise ServerError or ReadOnlyError if the server cannot hold a replay memory."""
    info: dict[str, Any] = await redis.info("server")
    valkey, version = info.get("valkey_version"), info.get("redis_version", "unknown")
    if valkey is not None:
        if _major(valkey) < VALKEY_OLDEST:
            raise ServerError(f"Valkey at {address} is {valkey}, too old; at least {VALKEY_OLDEST}.0 is needed")
    elif _major(version) < REDIS_OLDEST:
        raise ServerError(
            f"Redis at {address} is {version}, too old for functions; "
            f"Redis {REDIS_OLDEST}.0 or Valkey {VALKEY_OLDEST}.0 is needed"
        )
    replication: dict[str, Any] = await redis.info("replication")
    if replication.get("role") == "slave" and int(replication.get("slave_read_only", 1)):
        raise ReadOnlyError("role:slave")


@asynccontextmanager
async def open_redis(settings: RedisSettings) -> AsyncIterator[Redis]:
    """Connect, check that the server is usable, and close at the end, even when cancelled.

    Raises:
        SettingsError: the URL is invalid or the certificate file is missing.
        ServerError: the server cannot be reached, refuses us, is a read-only replica, or is older than Redis 7 or
            Valkey 8.
    """
    _check_url(settings)
    address = settings.address
    pool = await asyncio.to_thread(make_pool, settings)
    redis = BorgRedis(connection_pool=pool, address=address, retry_for_s=settings.timeout_s)
    try:
        try:
            with anyio.fail_after(settings.connect_timeout_s + settings.timeout_s):
                await _check_server(redis, address)
        except (RedisError, OSError) as error:
            raise server_error(error, address) from error
        redis.retry_for_s = settings.outage_s  # only now: a server that was never reached is reported sooner
        yield redis
    finally:
        with anyio.move_on_after(CLOSE_TIMEOUT_S, shield=True):
            await redis.aclose()
            await pool.disconnect()
