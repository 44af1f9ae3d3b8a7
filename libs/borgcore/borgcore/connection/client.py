"""The connection to Redis or Valkey: bounded in time and number, retried with jitter, an outage logged once."""

import asyncio
import math
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import anyio
import structlog
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ReadOnlyError, RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from borgcore.connection.failures import is_outage, server_error
from borgcore.connection.retry import backoff_s
from borgcore.errors import ServerError, SettingsError
from borgcore.settings.addresses import read_address
from borgcore.settings.sections import RedisSettings

MAX_CONNECTIONS = 32
CLOSE_TIMEOUT_S = 2.0
REDIS_OLDEST = 7  # the first with FUNCTION
VALKEY_OLDEST = 8

_log = structlog.get_logger(__name__)


class BorgRedis(Redis):
    """redis-py's client with retries bounded in time; one outage is two log events, however many calls it fails."""

    def __init__(self, *, connection_pool: BlockingConnectionPool, address: str, retry_for_s: float) -> None:
        """Name the server ``address`` in logs; give up a call ``retry_for_s`` after it first failed."""
        super().__init__(connection_pool=connection_pool)
        self.auto_close_connection_pool = False
        self.address = address
        self.retry_for_s = retry_for_s
        self._lost_at: float | None = None

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """Send one command; a lost connection is tried again, so a command may be carried out twice."""
        failures, deadline = 0, math.inf
        while True:
            try:
                reply = await super().execute_command(*args, **options)  # type: ignore[no-untyped-call]
            except (RedisConnectionError, RedisTimeoutError) as error:
                if not is_outage(error):
                    raise
                now = time.monotonic()
                deadline = min(deadline, now + self.retry_for_s)
                failures += 1
                if self._lost_at is None:
                    self._lost_at = now
                    _log.warning("redis_lost", address=self.address, error=str(error))
                wait_s = backoff_s(failures)
                if now + wait_s > deadline:
                    raise
                await asyncio.sleep(wait_s)
            else:
                if self._lost_at is not None:
                    _log.info(
                        "redis_regained", address=self.address, outage_s=round(time.monotonic() - self._lost_at, 3)
                    )
                    self._lost_at = None
                return reply


def address_of(redis: Redis) -> str:
    """Name the server of a client, without secrets."""
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
    """Prepare connections, bounded in number and time; looks at the certificate file, so not on the loop.

    Raises:
        SettingsError: the certificate file is wrong.
    """
    options: dict[str, Any] = {
        "max_connections": MAX_CONNECTIONS,
        "timeout": settings.timeout_s,  # for a free connection
        "socket_timeout": settings.timeout_s,
        "retry": Retry(NoBackoff(), 0),  # BorgRedis does it
        "driver_info": None,  # else every new connection looks up redis-py's own version on disk
        "protocol": 2,  # servers too old for RESP3 must live to say how old they are
    }
    scheme = urlsplit(settings.url).scheme
    if scheme != "unix":
        options |= {"socket_connect_timeout": settings.connect_timeout_s, "socket_keepalive": True}
    if scheme == "rediss" and settings.ca_file is not None:
        if not settings.ca_file.is_file():
            raise SettingsError(f"redis ca_file: {settings.ca_file} is no file; expected a PEM certificate authority")
        options["ssl_ca_certs"] = str(settings.ca_file)
    if settings.password is not None:
        options["password"] = settings.password.get_secret_value()
    return BlockingConnectionPool.from_url(settings.url, **options)


def _major(version: object) -> int:
    head = str(version).partition(".")[0]
    return int(head) if head.isdigit() else 0


async def _check_server(redis: Redis, address: str) -> None:
    """Refuse a server that cannot hold a replay memory."""
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
    """Connect, check that the server can do what is needed, and close at the end, also when cancelled.

    Raises:
        SettingsError: the URL or the certificate file is wrong.
        ServerError: the server is absent, refuses us, is a read-only replica, or is older than Redis 7 / Valkey 8.
    """
    _check_url(settings)
    address = settings.address
    pool = await asyncio.to_thread(make_pool, settings)  # it looks at the certificate file
    redis = BorgRedis(connection_pool=pool, address=address, retry_for_s=settings.timeout_s)
    try:
        try:
            with anyio.fail_after(settings.connect_timeout_s + settings.timeout_s):
                await _check_server(redis, address)
        except (RedisError, OSError) as error:
            raise server_error(error, address) from error
        redis.retry_for_s = settings.outage_s  # a server that was there may come back; an absent one is said at once
        yield redis
    finally:
        with anyio.move_on_after(CLOSE_TIMEOUT_S, shield=True):
            await redis.aclose()
            await pool.disconnect()
