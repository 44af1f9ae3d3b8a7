"""Puts events into Redis Streams, one stream per topic."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from importlib import resources
from typing import Any

import anyio
from redis.asyncio import Redis
from redis.asyncio.client import Pipeline

from borgcore.connection.client import CLOSE_TIMEOUT_S, BorgRedis, make_pool
from borgcore.eventlog.protocol import Outgoing, Tell
from borgcore.eventlog.streams.server import FAILURES, FIELD, execute, log_error, redis_settings, trim
from borgcore.run.keys import RunKeys
from borgcore.settings.sections import EventsSettings, RedisSettings

_TELL = resources.files("borgcore.eventlog.streams").joinpath("report_trimmed.lua").read_text(encoding="utf-8")


class StreamSender:
    """Sends in one round trip, which fails at once where the server is away; made by :func:`open_stream_sender`."""

    def __init__(self, redis: Redis, run: str, server: RedisSettings, cap: int) -> None:
        """Keep every stream at ``cap`` entries; ``redis`` need not have connected yet."""
        self._redis = redis
        self._keys = RunKeys(run)
        self._server = server
        self._cap = cap

    async def send(self, events: Sequence[Outgoing]) -> None:
        """Return when the server has all of them; streams above the cap are trimmed in the same round trip.

        Raises:
            EventLogError: it has not.
        """
        pipe = self._redis.pipeline(transaction=False)
        for event in events:
            pipe.xadd(self._keys.events(event.topic), {FIELD: event.value})
        for topic in {event.topic for event in events}:
            trim(pipe, self._keys, topic, self._cap)
        await self._execute(pipe)

    async def report_trimmed(self, tell: Tell) -> Mapping[str, int]:
        """Tell each trimmed entry once: its event is stored, and comes off the counter, in one step of the server.

        Raises:
            EventLogError: the server gave no answer, or refuses us; what is not told yet is told by a later call.
        """
        pipe = self._redis.pipeline(transaction=False)
        pipe.hgetall(self._keys.events_trimmed)
        [counters] = await self._execute(pipe)
        trimmed = {topic.decode(): int(entries) for topic, entries in counters.items()}
        if not trimmed:
            return {}
        pipe = self._redis.pipeline(transaction=False)
        for topic, entries in trimmed.items():
            event = tell(topic, entries)
            keys = (self._keys.events_trimmed, self._keys.events(event.topic))
            pipe.eval(_TELL, len(keys), *keys, topic, str(entries), FIELD, event.value)
        told = await self._execute(pipe)
        return {topic: entries for (topic, entries), ours in zip(trimmed.items(), told, strict=True) if ours}

    async def _execute(self, pipe: Pipeline) -> list[Any]:
        try:
            with anyio.fail_after(self._server.connect_timeout_s + self._server.timeout_s):
                return await execute(pipe)
        except FAILURES as error:
            raise log_error(error, self._server.address) from error


@asynccontextmanager
async def open_stream_sender(settings: EventsSettings, run: str) -> AsyncIterator[StreamSender]:
    """Open a sender that connects when it is first used.

    Raises:
        SettingsError: the URL or the certificate file is wrong.
    """
    server = redis_settings(settings)
    pool = await asyncio.to_thread(make_pool, server)  # it looks at the certificate file
    redis = BorgRedis(connection_pool=pool, address=server.address, retry_for_s=server.outage_s)
    try:
        yield StreamSender(redis, run, server, settings.stream_cap)
    finally:
        with anyio.move_on_after(CLOSE_TIMEOUT_S, shield=True):
            await redis.aclose()
            await pool.disconnect()
