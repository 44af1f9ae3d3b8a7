"""Reads Redis Streams as one member of a consumer group."""

import time
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio
import structlog
from redis.exceptions import ResponseError

from borgcore.connection.client import address_of
from borgcore.connection.failures import is_outage
from borgcore.connection.retry import BACKOFF, Outage
from borgcore.eventlog.protocol import Chunk, Loss, Partition, Position, RetentionUse
from borgcore.eventlog.streams.group import Entry, Removed, StreamGroup
from borgcore.eventlog.streams.pending import PendingEntries
from borgcore.eventlog.streams.server import FAILURES, T, check_policy, log_error, open_log
from borgcore.events.topics import DEAD_LETTER_CAP
from borgcore.run.keys import RunKeys
from borgcore.settings.sections import EventsSettings

MEMBER_DEAD_S = 60.0  # a member silent for longer loses its entries to the others
CHECKS_PER_DEATH = 6  # heartbeats, and checks for dead members, in that time
TRIM_PERIOD_S = 1.0
BLOCK_S = 1.0  # longest wait in one call
_log = structlog.get_logger()


class StreamConsumer:
    """Hands out entries and keeps track of them; only one task may call ``fetch``. See :func:`open_stream_consumer`."""

    def __init__(self, group: StreamGroup, settings: EventsSettings, *, dead_after_s: float) -> None:
        """Read nothing yet."""
        self._outage = Outage()  # logs nothing: the Redis client does
        self._group = group
        self._settings = settings
        self._dead_after_s = dead_after_s
        self._topics = list(group.topics)
        self._pending = {topic: PendingEntries(Partition(topic, 0)) for topic in self._topics}
        self._acking = anyio.Lock()  # entries being acknowledged must not be read as pending and handed out again
        self._unread: dict[str, str] = {}  # topic -> id after which our own pending entries are still unread
        self._rereads = True  # whether the server may have given us entries that did not arrive here
        self._group_lost = False
        self._resumed: anyio.Event | None = None
        self._check_at_s = self._next_check_s()
        self._trim_at_s = 0.0
        self._losses: list[Loss] = []

    @property
    def outage(self) -> str | None:
        """Why the log cannot be read at present; None while it can."""
        return self._outage.reason

    async def fetch(self, max_records: int, wait_s: float) -> list[Chunk]:
        """Return the next entries; see :class:`~borgcore.eventlog.protocol.Consumer`. It may be called after an error.

        Raises:
            EventLogError: the server was unavailable for longer than ``outage_s``, or refuses us.
        """
        deadline_s = time.monotonic() + wait_s
        while True:
            try:
                chunks = await self._read(max_records, deadline_s)
            except FAILURES as error:
                await self._recover(error, deadline_s)
            else:
                self._outage.end()
                if chunks:
                    return chunks
            if time.monotonic() >= deadline_s:
                return []

    def pause(self) -> None:
        """Fetch nothing until :meth:`resume`, but stay a member."""
        self._resumed = self._resumed or anyio.Event()

    def resume(self) -> None:
        """Fetch again."""
        if self._resumed is not None:
            self._resumed.set()
            self._resumed = None

    async def commit(self, upto: Mapping[Partition, Position]) -> None:
        """Acknowledge entries up to and including these positions, in the order in which they were handed out.

        Raises:
            EventLogError: the server did not acknowledge them; they are read again after a restart.
        """
        async with self._acking:
            due = {partition.topic: self._pending[partition.topic].upto(str(at)) for partition, at in upto.items()}
            await self._translated(self._group.acknowledge(due))
            for topic, positions in due.items():
                self._pending[topic].remove(positions)

    async def send_dead_letters(self, dead_letters: Sequence[bytes]) -> None:
        """Append records that can never be indexed to the stream ``dead_letter``, which keeps the newest.

        Raises:
            EventsRefusedError: the server can never take some of them, and has all others.
            EventLogError: the server does not have all of them.
        """
        cap = min(DEAD_LETTER_CAP, self._settings.stream_cap)
        await self._translated(self._group.send_dead_letters(dead_letters, cap))

    async def lag(self) -> int:
        """Count the entries that the group has not acknowledged, as :func:`borgcore.eventlog.streams.server.backlog`.

        Raises:
            EventLogError: the server did not answer, or refuses us.
        """
        return sum((await self._translated(self._group.unread())).values())

    def take_losses(self) -> list[Loss]:
        """Return what others removed unread (XTRIM, DEL, FLUSHALL, an eviction …); senders report trimmed entries."""
        losses, self._losses = self._losses, []
        return losses

    async def retention_use(self) -> RetentionUse:
        """Find how near the oldest unread entry is to being trimmed, as a share of ``stream_cap``, or evicted.

        Raises:
            EventLogError: the server did not answer, or refuses us.
        """
        if (evicting := await self._translated(self._group.find_evicting())) is not None:
            return RetentionUse(1.0, evicting)
        unread = await self._translated(self._group.unread())
        topic, entries = max(unread.items(), key=lambda item: item[1])
        cap = self._settings.stream_cap
        return RetentionUse(entries / cap, f"{entries} entries of {topic} are unread, the oldest are trimmed at {cap}")

    async def _read(self, max_records: int, deadline_s: float) -> list[Chunk]:
        """Read once: our pending entries, those of a dead member, then new ones. Raises redis-py's errors."""
        if self._group_lost:
            await self._group.create()
            self._group_lost = False
        if time.monotonic() >= self._trim_at_s:
            self._trim_at_s = time.monotonic() + TRIM_PERIOD_S
            self._note_losses(await self._group.trim())
        if self._resumed is not None:
            await self._wait_for_resume(self._resumed, deadline_s)
            return []
        if self._rereads:
            self._unread, self._rereads = dict.fromkeys(self._topics, "0"), False
        while self._unread:
            if chunks := await self._read_own(max_records):
                return chunks
        if time.monotonic() >= self._check_at_s:
            if chunks := await self._reclaim(max_records):
                return chunks
            self._check_at_s = self._next_check_s()
        return await self._read_new(max_records, deadline_s)

    def _note_losses(self, removed: Mapping[str, Removed]) -> None:
        """Keep what others removed; entries that were handed out here are not lost."""
        for topic, (entries, first) in removed.items():
            if entries and (lost := entries - self._pending[topic].count_gone(first)) > 0:
                self._losses.append(Loss(Partition(topic, 0), lost, "deleted_unread"))

    async def _wait_for_resume(self, resumed: anyio.Event, deadline_s: float) -> None:
        await self._group.send_heartbeat()
        with anyio.move_on_after(max(0.0, deadline_s - time.monotonic())):
            await resumed.wait()

    async def _read_own(self, max_records: int) -> list[Chunk]:
        """Read the entries pending under our name, except those that this process holds."""
        asked = dict(list(self._unread.items())[:max_records])
        async with self._acking:
            found = await self._group.read(asked, max_records)
            gone = {topic: [at for at, fields in entries if not fields] for topic, entries in found.items()}
            if any(gone.values()):
                await self._group.acknowledge(gone)
            for topic, entries in found.items():
                if entries:
                    self._unread[topic] = entries[-1][0]
                else:
                    del self._unread[topic]
            return self._hand_out(found)

    async def _reclaim(self, max_records: int) -> list[Chunk]:
        """Take over entries that one dead member has not acknowledged."""
        for topic in self._topics:
            async with self._acking:
                while True:
                    self._rereads = True  # if the reply is lost
                    claim = await self._group.reclaim(topic, int(1_000 * self._dead_after_s), max_records)
                    self._rereads = False
                    if claim is None:
                        break
                    _log.warning("entries_reclaimed", topic=topic, member=claim.member, entries=claim.pending)
                    if chunks := self._hand_out({topic: claim.entries}):
                        return chunks
        return []

    async def _read_new(self, max_records: int, deadline_s: float) -> list[Chunk]:
        self._topics.append(self._topics.pop(0))  # so that each comes first in turn, even if ``max_records`` is smaller
        left_s = min(deadline_s - time.monotonic(), BLOCK_S, self._settings.timeout_s / 2)
        block_ms = max(1, int(1_000 * left_s)) if left_s > 0.0 else None
        self._rereads = True  # if the reply is lost
        found = await self._group.read(dict.fromkeys(self._topics[:max_records], ">"), max_records, block_ms)
        self._rereads = False
        return self._hand_out(found)

    def _hand_out(self, found: Mapping[str, Sequence[Entry]]) -> list[Chunk]:
        chunks = (self._pending[topic].hand_out(entries) for topic, entries in found.items())
        return [chunk for chunk in chunks if chunk.positions]

    def _next_check_s(self) -> float:
        return time.monotonic() + self._dead_after_s / CHECKS_PER_DEATH

    async def _recover(self, error: Exception, deadline_s: float) -> None:
        """Wait before the next try; raise if the log was unavailable for too long or refuses us."""
        if isinstance(error, ResponseError) and str(error).startswith(("NOGROUP", "UNBLOCKED")):
            self._group_lost = True
            _log.warning("stream_group_lost", group=self._group.name, consequence="created again, at the oldest entry")
            return
        self._check_at_s = self._next_check_s()  # after an outage the other members need time for their heartbeats
        failure = log_error(error, self._group.address)
        self._outage.record(failure)
        gives_up = self._outage.duration_s > self._settings.outage_s
        left_s = max(0.0, deadline_s - time.monotonic())
        await anyio.sleep(min(BACKOFF.wait_s(self._outage.failures), left_s))
        if gives_up or not (is_outage(error) or isinstance(error, OSError)):
            raise failure from error

    async def _translated(self, call: Awaitable[T]) -> T:
        try:
            return await call
        except FAILURES as error:
            raise log_error(error, self._group.address) from error


@asynccontextmanager
async def open_stream_consumer(
    settings: EventsSettings,
    run: str,
    topics: Sequence[str],
    *,
    group: str,
    member: str,
    dead_after_s: float = MEMBER_DEAD_S,
) -> AsyncIterator[StreamConsumer]:
    """Join ``group`` as ``member``; entries that an earlier process of that name has not acknowledged come first.

    Raises:
        SettingsError: the URL is invalid, the certificate file is missing, or the server would evict events.
        EventLogError: the server cannot be reached or refuses us.
    """
    async with open_log(settings) as redis:
        own = StreamGroup(redis, RunKeys(run), topics, group=group, member=member)
        try:
            await check_policy(redis)
            await own.create()
        except FAILURES as error:
            raise log_error(error, own.address) from error
        yield StreamConsumer(own, settings, dead_after_s=dead_after_s)


async def check_streams(settings: EventsSettings) -> str:
    """Connect and verify; return a description of the server, for example "Valkey 9.1.0 at 127.0.0.1:6379".

    Raises:
        SettingsError: the server would evict events, or as in :func:`open_log`.
        EventLogError: as in :func:`open_log`.
    """
    async with open_log(settings) as redis:
        try:
            await check_policy(redis)
            info: dict[str, Any] = await redis.info("server")
        except FAILURES as error:
            raise log_error(error, address_of(redis)) from error
        valkey = info.get("valkey_version")
        name = f"Valkey {valkey}" if valkey else f"Redis {info['redis_version']}"
        return f"{name} at {address_of(redis)}"
