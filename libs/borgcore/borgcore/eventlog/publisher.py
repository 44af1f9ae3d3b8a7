"""Publishing that never waits: events go into a bounded buffer, and a task of its own brings them into the log."""

import math
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import anyio
import orjson
import structlog
import uuid_utils
from anyio import CancelScope

from borgcore.connection.retry import backoff_s
from borgcore.errors import BorgError, EventLogError
from borgcore.eventlog.open import open_sender
from borgcore.eventlog.protocol import Outgoing, Sender
from borgcore.events.monitoring import EventsDropped
from borgcore.events.schema import SCHEMA_VERSION, Event
from borgcore.settings.sections import EventsSettings

BATCH = 500  # events sent in one go
LINGER_S = 0.1  # events that come together travel together
DRAIN_S = 3.0  # from the newest event on, once the service has ended
TRIM_LOOK_S = 10.0  # between two looks for entries that a stream had to trim
_log = structlog.get_logger()


def encode_event(event: Event, run: str) -> bytes:
    """Encode an event with its envelope: time, a new UUIDv7, name, schema version and run."""
    envelope = {
        "@timestamp": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "event_id": str(uuid_utils.uuid7()),
        "event": event.name,
        "schema": SCHEMA_VERSION,
        "run": run,
    }
    fields = {name: value for name, value in event.model_dump(mode="json").items() if not _is_absent(value)}
    try:
        return orjson.dumps(envelope | fields)
    except TypeError:  # a number beyond 64 bits, a path that is no UTF-8
        return orjson.dumps(envelope | {name: _encodable(value) for name, value in fields.items()})


def _is_absent(value: object) -> bool:
    return value is None or (isinstance(value, float) and not math.isfinite(value))  # JSON has no word for those


def _encodable(value: Any) -> Any:
    """What JSON cannot hold, as near as it can."""
    match value:
        case dict():
            return {_encodable(name): _encodable(inner) for name, inner in value.items()}
        case list():
            return [_encodable(inner) for inner in value]
        case str():
            return value.encode(errors="replace").decode()
        case int() if not -(1 << 63) <= value < 1 << 64:
            return str(value)
    return value


class Publisher:
    """Takes the events of one service; while the log is away it keeps the newest and counts what it drops."""

    def __init__(self, sender: Sender, run: str, service: str, size: int) -> None:
        """Keep at most ``size`` events."""
        self.published = 0
        """Events the log has taken."""
        self.dropped = 0
        """Events that were lost because the buffer was full, or because the log was away at the end."""
        self.agent: int | None = None
        """Number of the agent that publishes, once it has one."""
        self._sender = sender
        self._run = run
        self._service = service
        self._size = size
        self._buffer: deque[Outgoing] = deque()
        self._sending: list[Outgoing] = []
        self._arrived = anyio.Event()
        self._emptied = anyio.Event()
        self._lost_at_s: float | None = None
        self._dropped_before = 0  # what was said already
        self._trim_look_s = 0.0
        self._newest_s = 0.0

    @property
    def pending(self) -> int:
        """Events that the log has not taken yet."""
        return len(self._buffer) + len(self._sending)

    @property
    def connected(self) -> bool:
        """Whether the log took what was last sent."""
        return self._lost_at_s is None

    def publish(self, event: Event) -> None:
        """Hand an event over; returns at once."""
        self._buffer.append(self._encode(event))
        self._arrived.set()
        if self.pending > self._size and len(self._buffer) > 1:
            self._buffer.popleft()
            if self.dropped == self._dropped_before:
                _log.warning("events_dropping", kept=self._size, consequence="the oldest go until the log is back")
            self.dropped += 1
        self._newest_s = time.monotonic()

    async def pump(self) -> None:
        """Bring events into the log until cancelled."""
        failures = 0
        while True:
            if not self.pending:
                self._arrived = anyio.Event()
                await self._arrived.wait()
                await anyio.sleep(LINGER_S)
            while self._buffer and len(self._sending) < BATCH:
                self._sending.append(self._buffer.popleft())
            try:
                await self._sender.send(self._sending)
            except Exception as error:  # noqa: BLE001  # whatever ails the log, nobody's work ends with it
                failures += 1
                self._begin_outage(error)
                await anyio.sleep(backoff_s(failures))
                continue
            failures = 0
            self.published += len(self._sending)
            self._sending = []
            self._end_outage()
            await self._look_for_trimmed()
            if not self.pending:
                self._emptied.set()

    async def drain(self, wait_s: float) -> None:
        """Give the newest event its time, counted from when it came; what is left then is counted and said."""
        if self.pending:
            self._emptied = anyio.Event()
            with anyio.move_on_after(max(0.0, self._newest_s + wait_s - time.monotonic())):
                await self._emptied.wait()
        if self.pending:
            self.dropped += self.pending
            _log.warning("events_lost", events=self.pending, reason="the log did not take them before the end")

    def _begin_outage(self, error: Exception) -> None:
        if self._lost_at_s is None:
            self._lost_at_s = time.monotonic()
            reason = str(error) if isinstance(error, BorgError) else f"{type(error).__name__}: {error}"
            _log.warning("event_log_lost", reason=reason, kept=self._size)

    def _end_outage(self) -> None:
        dropped, lost_at_s = self.dropped - self._dropped_before, self._lost_at_s
        self._lost_at_s, self._dropped_before = None, self.dropped
        outage_s = 0.0 if lost_at_s is None else round(time.monotonic() - lost_at_s, 3)
        if lost_at_s is not None:
            _log.info("event_log_regained", outage_s=outage_s, dropped=dropped)
        if dropped:
            self.publish(self._events_dropped(dropped, "buffer_full", outage_s=outage_s))

    async def _look_for_trimmed(self) -> None:
        if time.monotonic() < self._trim_look_s:
            return
        self._trim_look_s = time.monotonic() + TRIM_LOOK_S
        try:
            told = await self._sender.report_trimmed(self._tell_trimmed)
        except EventLogError:  # the next look finds them
            return
        self.published += len(told)
        for topic, entries in told.items():
            _log.warning("stream_trimmed", topic=topic, entries=entries, reason="nobody read them before it was full")

    def _tell_trimmed(self, topic: str, entries: int) -> Outgoing:
        return self._encode(self._events_dropped(entries, "stream_trimmed", topic=topic))

    def _events_dropped(
        self, dropped: int, reason: str, topic: str | None = None, outage_s: float | None = None
    ) -> EventsDropped:
        return EventsDropped(
            service=self._service,
            agent=self.agent,
            dropped=dropped,
            dropped_topic=topic,
            outage_s=outage_s,
            reason=reason,
        )

    def _encode(self, event: Event) -> Outgoing:
        key = f"{self._run}/{self._service}/{self.agent or 0}".encode()
        return Outgoing(event.topic, key, encode_event(event, self._run))


@asynccontextmanager
async def open_publisher(settings: EventsSettings, run: str, service: str) -> AsyncIterator[Publisher]:
    """Publish for the time of the block; at its end the last events get the rest of ``DRAIN_S`` seconds.

    Raises:
        SettingsError: the URL is wrong. That the log is away is no error: it is logged, and tried again.
    """
    async with open_sender(settings, run) as sender:
        publisher = Publisher(sender, run, service, settings.buffer)
        pumping = CancelScope(shield=True)  # a cancelled service, too, gets its last events out

        async def pump() -> None:
            with pumping:
                await publisher.pump()

        async with anyio.create_task_group() as group:
            group.start_soon(pump)
            try:
                yield publisher
            finally:
                with CancelScope(shield=True):
                    await publisher.drain(DRAIN_S)
                pumping.cancel()
