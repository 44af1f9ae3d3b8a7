"""Publishes without waiting: events go into a bounded buffer, and a separate task sends them to the log."""

import math
import time
from collections import deque
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import anyio
import orjson
import structlog
import uuid_utils
from anyio import CancelScope

from borgcore.connection.retry import BACKOFF, Outage
from borgcore.errors import BorgError, EventLogError
from borgcore.eventlog.open import open_sender
from borgcore.eventlog.protocol import EventsRefusedError, Outgoing, Refusal, Sender
from borgcore.eventlog.refused import log_refused, log_unencodable
from borgcore.events.monitoring import EventsDropped
from borgcore.events.schema import SCHEMA_VERSION, Event
from borgcore.events.timestamp import as_timestamp
from borgcore.settings.sections import EventsSettings

BATCH = 500  # most events in one send
LINGER_S = 0.1  # wait for further events before sending the first
DRAIN_S = 3.0  # time to send the last events when the service ends, counted from the newest one
TRIM_CHECK_S = 10.0  # between two checks for trimmed entries
_log = structlog.get_logger()


def encode_event(event: Event, run: str) -> bytes:
    """Encode an event with its envelope: time, a new UUIDv7, name, schema version and run."""
    envelope = {
        "@timestamp": as_timestamp(datetime.now(UTC)),
        "event_id": str(uuid_utils.uuid7()),
        "event": event.name,
        "schema": SCHEMA_VERSION,
        "run": run,
    }
    fields = {name: value for name, value in event.model_dump(mode="json").items() if not _is_absent(value)}
    try:
        return orjson.dumps(envelope | fields)
    except TypeError:  # an integer beyond 64 bits, a path that is not UTF-8
        return orjson.dumps(envelope | {name: _encodable(value) for name, value in fields.items()})


def _is_absent(value: object) -> bool:
    return value is None or (isinstance(value, float) and not math.isfinite(value))  # JSON has no NaN or infinity


def _encodable(value: Any) -> Any:
    """Replace values that JSON cannot hold with the nearest that it can."""
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
    """Takes the events of one service; while the log is unavailable it keeps the newest and counts those it drops."""

    def __init__(self, sender: Sender, run: str, service: str, size: int) -> None:
        """Keep at most ``size`` events."""
        self.published = 0
        """Events that the log has taken."""
        self.dropped = 0
        """Events lost: the buffer was full, the log can never take them, or it was unavailable at the end."""
        self.agent: int | None = None
        """Number of the publishing agent, once it has one."""
        self._sender = sender
        self._run = run
        self._service = service
        self._size = size
        self._buffer: deque[Outgoing] = deque()
        self._sending: list[Outgoing] = []
        self._arrived = anyio.Event()
        self._emptied = anyio.Event()
        self._outage = Outage("event_log_lost", "event_log_regained")
        self._dropped_before = 0  # already reported
        self._trim_check_s = 0.0
        self._newest_s = 0.0

    @property
    def pending(self) -> int:
        """Number of events that the log has not taken yet."""
        return len(self._buffer) + len(self._sending)

    @property
    def connected(self) -> bool:
        """Whether the last send succeeded."""
        return self._outage.error is None

    def publish(self, event: Event) -> None:
        """Buffer an event and return at once; one that cannot be encoded is dropped, counted and logged."""
        try:
            self._buffer.append(self._encode(event))
        except (TypeError, ValueError, RecursionError) as error:
            self._count_refused(event.topic, event.name, [log_unencodable(event, error)])
            return
        self._arrived.set()
        if self.pending > self._size and len(self._buffer) > 1:
            self._buffer.popleft()
            if self.dropped == self._dropped_before:
                _log.warning("events_dropping", kept=self._size, consequence="the oldest are dropped for now")
            self.dropped += 1
        self._newest_s = time.monotonic()

    async def pump(self) -> None:
        """Send events to the log until cancelled."""
        while True:
            if not self.pending:
                self._arrived = anyio.Event()
                await self._arrived.wait()
                await anyio.sleep(LINGER_S)
            while self._buffer and len(self._sending) < BATCH:
                self._sending.append(self._buffer.popleft())
            refusals: Mapping[int, Refusal] = {}
            try:
                await self._sender.send(self._sending)
            except EventsRefusedError as error:
                refusals = error.refusals
            except Exception as error:  # noqa: BLE001  # no failure of the log may end the service
                self._outage.record(error, reason=_describe(error), kept=self._size)
                await anyio.sleep(BACKOFF.wait_s(self._outage.failures))
                continue
            sent, self._sending = self._sending, []
            self.published += len(sent) - len(refusals)
            self._report_dropped()
            self._report_refused([(sent[row], refusal) for row, refusal in refusals.items()])
            await self._report_trimmed()
            if not self.pending:
                self._emptied.set()

    async def drain(self, wait_s: float) -> None:
        """Wait until all events are sent, at most ``wait_s`` after the newest came; count and log those left."""
        if self.pending:
            self._emptied = anyio.Event()
            with anyio.move_on_after(max(0.0, self._newest_s + wait_s - time.monotonic())):
                await self._emptied.wait()
        if self.pending:
            self.dropped += self.pending
            _log.warning("events_lost", events=self.pending, reason="the service ended before the log took them")

    def _report_dropped(self) -> None:
        """End the outage, if there was one, and publish how many events were dropped since the last send."""
        dropped, self._dropped_before = self.dropped - self._dropped_before, self.dropped
        outage_s = self._outage.end(dropped=dropped)
        if dropped:
            self.publish(self._events_dropped(dropped, "buffer_full", outage_s=outage_s))

    def _report_refused(self, refused: Collection[tuple[Outgoing, Refusal]]) -> None:
        """Log, count and publish events that the log can never take; a lost report of losses is not published."""
        for (topic, name), texts in log_refused(refused).items():
            self._count_refused(topic, name, texts)

    def _count_refused(self, topic: str, name: str, texts: Sequence[str]) -> None:
        self.dropped += len(texts)
        self._dropped_before += len(texts)  # the next report of a full buffer leaves them out
        if name != EventsDropped.name:
            report = self._events_dropped(len(texts), "refused", topic=topic)
            self.publish(report.model_copy(update={"dropped_event": name, "first_refused": texts[0]}))

    async def _report_trimmed(self) -> None:
        if time.monotonic() < self._trim_check_s:
            return
        self._trim_check_s = time.monotonic() + TRIM_CHECK_S
        try:
            reported = await self._sender.report_trimmed(self._make_trim_report)
        except EventLogError:  # the next check reports them
            return
        self.published += len(reported)
        for topic, entries in reported.items():
            _log.warning("stream_trimmed", topic=topic, entries=entries, reason="the stream was full of unread entries")

    def _make_trim_report(self, topic: str, entries: int) -> Outgoing:
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


def _describe(error: Exception) -> str:
    return str(error) if isinstance(error, BorgError) else f"{type(error).__name__}: {error}"


@asynccontextmanager
async def open_publisher(settings: EventsSettings, run: str, service: str) -> AsyncIterator[Publisher]:
    """Publish inside the block; at its end the last events get the rest of ``DRAIN_S`` seconds.

    Raises:
        SettingsError: the URL is invalid. An unavailable log is no error: it is logged, and sending is retried.
    """
    async with open_sender(settings, run) as sender:
        publisher = Publisher(sender, run, service, settings.buffer)
        pumping = CancelScope(shield=True)  # a cancelled service must still send its last events

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
