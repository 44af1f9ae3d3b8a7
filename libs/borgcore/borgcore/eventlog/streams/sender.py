"""Sends events to Redis Streams, one stream per topic."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from contextlib import asynccontextmanager
from importlib import resources
from typing import Any

import anyio
from redis.asyncio import Redis
from redis.asyncio.client import Pipeline

from borgcore.connection.client import CLOSE_TIMEOUT_S, BorgRedis, make_pool
from borgcore.eventlog.protocol import MakeTrimReport, Outgoing
from borgcore.eventlog.streams.append import append
from borgcore.eventlog.streams.server import FAILURES, FIELD, T, Trims, execute, log_error, redis_settings
from borgcore.run.keys import RunKeys
from borgcore.settings.sections import EventsSettings, RedisSettings

_REPORT = resources.files("borgcore.eventlog.streams").joinpath("report_trimmed.lua").read_text(encoding="utf-8")


class StreamSender:
    """Sends in one round trip, which fails at once if the server is unavailable. See :func:`open_stream_sender`."""

    def __init__(self, redis: Redis, run: str, server: RedisSettings, cap: int) -> None:
        """Trim every stream to ``cap`` entries; ``redis`` need not be connected yet."""
        self._redis = redis
        self._keys = RunKeys(run)
        self._server = server
        self._cap = cap
        self._trims = Trims(self._keys)

    async def send(self, events: Sequence[Outgoing]) -> None:
        """Return when the server has all events; streams above the cap are trimmed in the same round trip.

        Raises:
            EventsRefusedError: the server can never take some of them, and has all others.
            EventLogError: the server does not have all of them.
        """
        entries = [(event.topic, event.value) for event in events]
        await self._bounded(append(self._redis, self._keys, self._trims, entries, self._cap))

    async def report_trimmed(self, make_report: MakeTrimReport) -> Mapping[str, int]:
        """Report each trimmed entry once: the server stores the event and reduces the counter atomically.

        Raises:
            EventLogError: the server did not answer, or refuses us; a later call reports the rest.
        """
        pipe = self._redis.pipeline(transaction=False)
        pipe.hgetall(self._keys.events_trimmed)
        [counters] = await self._execute(pipe)
        trimmed = {topic.decode(): int(entries) for topic, entries in counters.items()}
        if not trimmed:
            return {}
        pipe = self._redis.pipeline(transaction=False)
        for topic, entries in trimmed.items():
            event = make_report(topic, entries)
            keys = (self._keys.events_trimmed, self._keys.events(event.topic))
            pipe.eval(_REPORT, len(keys), *keys, topic, str(entries), FIELD, event.value)
        reported = await self._execute(pipe)
        return {topic: entries for (topic, entries), ours in zip(trimmed.items(), reported, strict=True) if ours}

    async def _execute(self, pipe: Pipeline) -> list[Any]:
        return await self._bounded(execute(pipe))

    async def _bounded(self, call: Awaitable[T]) -> T:
        try:
            with anyio.fail_after(self._server.connect_timeout_s + self._server.timeout_s):
                return await call
        except FAILURES as error:
            raise log_error(error, self._server.address) from error


@asynccontextmanager
async def open_stream_sender(settings: EventsSettings, run: str) -> AsyncIterator[StreamSender]:
    """Open a sender; it connects at its first use.

    Raises:
        SettingsError: the URL is invalid or the certificate file is missing.
    """
    server = redis_settings(settings)
    pool = await asyncio.to_thread(make_pool, server)
    redis = BorgRedis(connection_pool=pool, address=server.address, retry_for_s=server.outage_s)
    try:
        yield StreamSender(redis, run, server, settings.stream_cap)
    finally:
        with anyio.move_on_after(CLOSE_TIMEOUT_S, shield=True):
            await redis.aclose()
            await pool.disconnect()
