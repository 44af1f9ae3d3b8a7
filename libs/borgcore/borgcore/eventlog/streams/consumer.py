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
from borgcore.connection.retry import backoff_s
from borgcore.eventlog.protocol import Chunk, Partition, Position
from borgcore.eventlog.streams.group import Entry, StreamGroup
from borgcore.eventlog.streams.pending import PendingEntries
from borgcore.eventlog.streams.server import FAILURES, T, log_error, open_log
from borgcore.events.schema import DEAD_LETTER_CAP
from borgcore.run.keys import RunKeys
from borgcore.settings.sections import EventsSettings

MEMBER_DEAD_S = 60.0  # a member that has not been heard of for so long loses its entries to the others
LOOKS_PER_DEATH = 6  # signs of life, and looks for dead members, in that time
TRIM_PERIOD_S = 1.0
BLOCK_S = 1.0  # longest wait in one call
_log = structlog.get_logger()


class StreamConsumer:
    """Hands entries out and remembers which; ``fetch`` is for one task. Made by :func:`open_stream_consumer`."""

    def __init__(self, group: StreamGroup, settings: EventsSettings, *, dead_after_s: float) -> None:
        """Read nothing yet."""
        self.outage: str | None = None
        self._group = group
        self._settings = settings
        self._dead_after_s = dead_after_s
        self._topics = list(group.topics)
        self._pending = {topic: PendingEntries(Partition(topic, 0)) for topic in self._topics}
        self._acking = anyio.Lock()  # what is being acknowledged must not be read as pending and handed out again
        self._unread: dict[str, str] = {}  # topic -> id after which our own pending entries are still to be read
        self._unsure = True  # whether entries may be ours that never came here: a predecessor's, or a lost reply's
        self._groupless = False
        self._resumed: anyio.Event | None = None
        self._look_at_s = self._next_look_s()
        self._trims = True  # whether something was acknowledged since the last trim
        self._trim_at_s = 0.0
        self._lost_at_s: float | None = None
        self._failures = 0

    async def fetch(self, max_records: int, wait_s: float) -> list[Chunk]:
        """Return the next entries, as :class:`~borgcore.eventlog.protocol.Consumer` says; after an error, call again.

        Raises:
            EventLogError: the server was away for longer than ``outage_s``, or refuses us.
        """
        deadline_s = time.monotonic() + wait_s
        while True:
            try:
                chunks = await self._look(max_records, deadline_s)
            except FAILURES as error:
                await self._endure(error, deadline_s)
            else:
                self._lost_at_s, self._failures, self.outage = None, 0, None
                if chunks:
                    return chunks
            if time.monotonic() >= deadline_s:
                return []

    def pause(self) -> None:
        """Fetch nothing until :meth:`resume`, and stay a member."""
        self._resumed = self._resumed or anyio.Event()

    def resume(self) -> None:
        """Fetch again."""
        if self._resumed is not None:
            self._resumed.set()
            self._resumed = None

    async def commit(self, upto: Mapping[Partition, Position]) -> None:
        """Acknowledge what was handed out up to and including these positions, in the order it was handed out.

        Raises:
            EventLogError: the server did not take it; what was to be acknowledged is read again after a restart.
        """
        async with self._acking:
            due = {partition.topic: self._pending[partition.topic].upto(str(at)) for partition, at in upto.items()}
            await self._translated(self._group.acknowledge(due))
            self._trims = True
            for topic, positions in due.items():
                self._pending[topic].remove(positions)

    async def send_dead_letters(self, letters: Sequence[bytes]) -> None:
        """Put records that can never be indexed into the stream ``dead_letter``, which keeps the newest.

        Raises:
            EventLogError: the server has not taken them.
        """
        await self._translated(self._group.send_dead_letters(letters, min(DEAD_LETTER_CAP, self._settings.stream_cap)))

    async def lag(self) -> int:
        """Count the entries that the group has not acknowledged, as :func:`borgcore.eventlog.streams.server.backlog`.

        Raises:
            EventLogError: the server gave no answer, or refuses us.
        """
        return await self._translated(self._group.backlog())

    async def _look(self, max_records: int, deadline_s: float) -> list[Chunk]:
        """Read once, the oldest duties first; raises what redis-py raises."""
        if self._groupless:
            await self._group.create()
            self._groupless = False
        if self._trims and time.monotonic() >= self._trim_at_s:
            self._trims, self._trim_at_s = False, time.monotonic() + TRIM_PERIOD_S
            await self._group.trim()
        if self._resumed is not None:
            await self._wait_for_resume(self._resumed, deadline_s)
            return []
        if self._unsure:
            self._unread, self._unsure = dict.fromkeys(self._topics, "0"), False
        while self._unread:
            if chunks := await self._read_own(max_records):
                return chunks
        if time.monotonic() >= self._look_at_s:
            if chunks := await self._reclaim(max_records):
                return chunks
            self._look_at_s = self._next_look_s()
        return await self._read_new(max_records, deadline_s)

    async def _wait_for_resume(self, resumed: anyio.Event, deadline_s: float) -> None:
        await self._group.show_life()
        with anyio.move_on_after(max(0.0, deadline_s - time.monotonic())):
            await resumed.wait()

    async def _read_own(self, max_records: int) -> list[Chunk]:
        """Read what is pending under our name, but for what this process holds."""
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
        """Take over what one dead member was given and never acknowledged."""
        for topic in self._topics:
            async with self._acking:
                while True:
                    self._unsure = True
                    claim = await self._group.reclaim(topic, int(1_000 * self._dead_after_s), max_records)
                    self._unsure = False
                    if claim is None:
                        break
                    _log.warning("entries_reclaimed", topic=topic, member=claim.member, entries=claim.pending)
                    if chunks := self._hand_out({topic: claim.entries}):
                        return chunks
        return []

    async def _read_new(self, max_records: int, deadline_s: float) -> list[Chunk]:
        self._topics.append(self._topics.pop(0))  # each is the first in turn, should there be more than records
        left_s = min(deadline_s - time.monotonic(), BLOCK_S, self._settings.timeout_s / 2)
        block_ms = max(1, int(1_000 * left_s)) if left_s > 0.0 else None
        self._unsure = True  # until it is here: a reply that is lost leaves entries that are ours
        found = await self._group.read(dict.fromkeys(self._topics[:max_records], ">"), max_records, block_ms)
        self._unsure = False
        return self._hand_out(found)

    def _hand_out(self, found: Mapping[str, Sequence[Entry]]) -> list[Chunk]:
        chunks = (self._pending[topic].hand_out(entries) for topic, entries in found.items())
        return [chunk for chunk in chunks if chunk.positions]

    def _next_look_s(self) -> float:
        return time.monotonic() + self._dead_after_s / LOOKS_PER_DEATH

    async def _endure(self, error: Exception, deadline_s: float) -> None:
        """Wait before the next try; raise where the log was away for too long or refuses us."""
        if isinstance(error, ResponseError) and str(error).startswith(("NOGROUP", "UNBLOCKED")):
            self._groupless = True
            _log.warning("stream_group_lost", group=self._group.name, consequence="created again, at the oldest entry")
            return
        now_s = time.monotonic()
        self._lost_at_s = now_s if self._lost_at_s is None else self._lost_at_s
        self._look_at_s = self._next_look_s()  # the others, too, need a while to be heard of again
        self._failures += 1
        failure = log_error(error, self._group.address)
        self.outage = str(failure)
        await anyio.sleep(min(backoff_s(self._failures), max(0.0, deadline_s - now_s)))
        away = is_outage(error) or isinstance(error, OSError)
        if not away or now_s - self._lost_at_s > self._settings.outage_s:
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
    """Join ``group`` as ``member``; what an earlier process of that name was given and never acknowledged comes first.

    Raises:
        SettingsError: the URL or the certificate file is wrong.
        EventLogError: the server is absent or refuses us.
    """
    async with open_log(settings) as redis:
        own = StreamGroup(redis, RunKeys(run), topics, group=group, member=member)
        try:
            await own.create()
        except FAILURES as error:
            raise log_error(error, own.address) from error
        yield StreamConsumer(own, settings, dead_after_s=dead_after_s)


async def check_streams(settings: EventsSettings) -> str:
    """Connect and verify; returns the server in words, such as "Valkey 9.1.0 at 127.0.0.1:6379".

    Raises:
        SettingsError, EventLogError: as in :func:`open_log`.
    """
    async with open_log(settings) as redis:
        try:
            info: dict[str, Any] = await redis.info("server")
        except FAILURES as error:
            raise log_error(error, address_of(redis)) from error
        valkey = info.get("valkey_version")
        name = f"Valkey {valkey}" if valkey else f"Redis {info['redis_version']}"
        return f"{name} at {address_of(redis)}"
