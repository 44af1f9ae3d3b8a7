"""Fakes of store, log and publisher, and records to ship."""

import uuid
from collections import deque
from collections.abc import Mapping, Sequence

import anyio
import orjson

from borgcore.eventlog.protocol import (
    Chunk,
    EventsRefusedError,
    Loss,
    Partition,
    Position,
    Refusal,
    RetentionUse,
)
from borgcore.events.schema import Event
from borglogshipper.pipeline.record import RecordBatch, RecordReader
from borglogshipper.stores.store import Documents, Outcome, Verdict

LOG = Partition("training_log", 0)
OTHER = Partition("memory_monitoring", 1)
TIME_MS = 1_795_341_600_000  # 2026-11-22T10:00:00Z
STAMP = "2026-11-22T10:00:00.000Z"
MAX_BYTES = 1_000
MAX_DEPTH = 20
PRESENT, REFUSED = Verdict(Outcome.PRESENT), Verdict(Outcome.REFUSED, "training_log-2026.11 answered 400")
BUSY, HELD = Verdict(Outcome.BUSY, "answered 429"), Verdict(Outcome.HELD, "training_log-2026.11 is read-only")


def event_of(**fields: object) -> bytes:
    """Return an event as our own publisher writes it."""
    return orjson.dumps({"@timestamp": STAMP, "event_id": str(uuid.uuid4()), "event": "made"} | fields)


def chunk_of(*values: bytes | None, partition: Partition = LOG, first: int = 0) -> Chunk:
    positions: list[Position] = [*range(first, first + len(values))]
    return Chunk(partition, positions, [TIME_MS] * len(values), list(values))


def batch_of(*values: bytes | None, reader: RecordReader | None = None, first: int = 0) -> RecordBatch:
    batch = RecordBatch()
    (reader or RecordReader(MAX_BYTES, MAX_DEPTH)).read(chunk_of(*values, first=first), batch)
    return batch


class FakeStore:
    """Keeps documents; the next writes and reads can be scripted: an error, or verdicts for some rows."""

    def __init__(self) -> None:
        self.keeps_dead_letters = False
        self.kept: dict[tuple[str, str], bytes] = {}
        self.answers: deque[Exception | dict[int, Verdict]] = deque()
        self.read_errors: deque[Exception] = deque()
        self.prepare_errors: deque[Exception] = deque()
        self.asked: list[str] = []
        self.written: list[list[str]] = []
        self.blind = False
        """Readers find no document."""
        self.under_way = self.most_under_way = 0

    async def check(self) -> str:
        return "fake"

    async def prepare(self) -> None:
        self.asked.append("prepare")
        await anyio.lowlevel.checkpoint()
        if self.prepare_errors:
            raise self.prepare_errors.popleft()

    async def write(self, documents: Documents) -> Mapping[int, Verdict]:
        self.asked.append("write")
        self.written.append(list(documents.ids))
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            await anyio.lowlevel.checkpoint()
        finally:
            self.under_way -= 1
        verdicts = self.answers.popleft() if self.answers else {}
        if isinstance(verdicts, Exception):
            raise verdicts
        return {
            row: verdicts.get(row, PRESENT)
            for row in range(len(documents))
            if row in verdicts or not self._keep(documents, row)
        }

    async def read(self, indices: Sequence[str], ids: Sequence[str]) -> list[bytes | None]:
        self.asked.append("read")
        await anyio.lowlevel.checkpoint()
        if self.read_errors:
            raise self.read_errors.popleft()
        return [None if self.blind else self.kept.get(key) for key in zip(indices, ids, strict=True)]

    def bodies(self) -> list[bytes]:
        return list(self.kept.values())

    def _keep(self, documents: Documents, row: int) -> bool:
        key = documents.indices[row], documents.ids[row]
        if key in self.kept:
            return False
        self.kept[key] = documents.bodies[row]
        return True


class FakeConsumer:
    """Returns the chunks put into it; keeps commits and dead letters."""

    def __init__(self, *chunks: Chunk) -> None:
        self.chunks = deque(chunks)
        self.outage: str | None = None
        self.fetch_errors: deque[Exception] = deque()
        self.commits: list[dict[Partition, Position]] = []
        self.commit_errors: deque[Exception] = deque()
        self.dead_letters: list[bytes] = []
        self.dead_letter_errors: deque[Exception] = deque()
        self.losses: list[Loss] = []
        self.use = RetentionUse()
        self.most_letter_bytes = 1_000_000
        self.letters_refused = 0
        self.paused = False
        self.pauses = 0
        self.fetched_while_paused = 0
        self.arrived = anyio.Event()

    @property
    def committed(self) -> dict[Partition, Position]:
        return {partition: position for commit in self.commits for partition, position in commit.items()}

    def put(self, *chunks: Chunk) -> None:
        self.chunks.extend(chunks)
        self.arrived.set()

    async def fetch(self, max_records: int, wait_s: float) -> list[Chunk]:
        await anyio.lowlevel.checkpoint()
        if self.fetch_errors:
            raise self.fetch_errors.popleft()
        if self.paused:
            self.fetched_while_paused += 1
        if self.paused or not self.chunks:
            self.arrived = anyio.Event()
            with anyio.move_on_after(wait_s):
                await self.arrived.wait()
        if self.paused or not self.chunks:
            return []
        chunk = self.chunks.popleft()
        if len(chunk.values) > max_records:
            columns = chunk.positions, chunk.times_ms, chunk.values
            self.chunks.appendleft(Chunk(chunk.partition, *(column[max_records:] for column in columns)))  # type: ignore[arg-type]  # columns of several types
            chunk = Chunk(chunk.partition, *(column[:max_records] for column in columns))  # type: ignore[arg-type]  # as above
        return [chunk]

    def pause(self) -> None:
        self.paused = True
        self.pauses += 1

    def resume(self) -> None:
        self.paused = False

    async def commit(self, upto: Mapping[Partition, Position]) -> None:
        await anyio.lowlevel.checkpoint()
        if self.commit_errors:
            raise self.commit_errors.popleft()
        self.commits.append(dict(upto))

    async def send_dead_letters(self, dead_letters: Sequence[bytes]) -> None:
        await anyio.lowlevel.checkpoint()
        if self.dead_letter_errors:
            raise self.dead_letter_errors.popleft()
        refusals = {
            row: Refusal(f"the topic dead_letter takes at most {self.most_letter_bytes} bytes", self.most_letter_bytes)
            for row, letter in enumerate(dead_letters)
            if len(letter) > self.most_letter_bytes
        }
        self.dead_letters += [letter for row, letter in enumerate(dead_letters) if row not in refusals]
        self.letters_refused += len(refusals)
        if refusals:
            raise EventsRefusedError(refusals)

    def take_losses(self) -> list[Loss]:
        losses, self.losses = self.losses, []
        return losses

    async def retention_use(self) -> RetentionUse:
        return self.use

    async def lag(self) -> int:
        await anyio.lowlevel.checkpoint()
        return sum(len(chunk.values) for chunk in self.chunks)


class FakePublisher:
    """Keeps published events."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.arrived = anyio.Event()

    def publish(self, event: Event) -> None:
        self.events.append(event)
        self.arrived.set()
