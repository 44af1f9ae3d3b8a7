"""Turn a record of the log into a document of the store, or into the reason why it can never be one.

The value passes through unchanged: it is parsed once to check that it is a JSON object, and never encoded again.
"""

import hashlib
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple

import orjson

from borgcore.eventlog.protocol import Chunk, Partition, Position
from borglogshipper.stores.store import Documents

_is_uuid = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}").fullmatch
_is_utc_time = re.compile(r"T(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{1,9})?Z").fullmatch
_LINE_BREAKS = bytes.maketrans(b"\n\r", b"  ")  # in valid JSON they occur only between tokens
_FIRST_YEAR, _LAST_YEAR = 2000, 2099  # one index per month: a producer's wrong clock must not create millions


class Origin(NamedTuple):
    """The position of a record in the log."""

    partition: Partition
    position: Position
    time_ms: int


class Refused(NamedTuple):
    """A record that can never be indexed."""

    origin: Origin
    value: bytes | None
    reason: str


@dataclass(slots=True)
class RecordBatch:
    """Records on their way: documents with their origins, and records that were refused."""

    documents: Documents = field(default_factory=lambda: Documents([], [], []))
    origins: list[Origin] = field(default_factory=list)
    """One per document."""
    foreign: set[int] = field(default_factory=set)
    """Rows of documents without an event_id; their id is derived from their origin."""
    originals: dict[int, bytes] = field(default_factory=dict)
    """Original values, by row, of documents whose bodies had to be changed."""
    refused: list[Refused] = field(default_factory=list)
    size_bytes: int = 0

    def __len__(self) -> int:
        return len(self.origins) + len(self.refused)

    def refuse(self, origin: Origin, value: bytes | None, reason: str) -> None:
        """Add a record that can never be indexed."""
        self.refused.append(Refused(origin, value, reason))
        self.size_bytes += len(value or b"")

    def pick(self, rows: list[int]) -> "RecordBatch":
        """Return the documents at these rows, in this order, without the refused records."""
        foreign = {new_row for new_row, row in enumerate(rows) if row in self.foreign}
        originals = {new_row: self.originals[row] for new_row, row in enumerate(rows) if row in self.originals}
        documents = self.documents.pick(rows)
        origins = [self.origins[row] for row in rows]
        return RecordBatch(documents, origins, foreign, originals, size_bytes=sum(map(len, documents.bodies)))

    def refused_at(self, row: int, reason: str) -> Refused:
        """Return the record of a document that the store refuses, as it was read."""
        return Refused(self.origins[row], self.originals.get(row, self.documents.bodies[row]), reason)

    def rename(self, row: int) -> bool:
        """Add its digest to the id of a document whose id is taken; return False if the id has it already."""
        digest = hashlib.sha256(self.documents.bodies[row]).hexdigest()[:32]
        before, self.documents.ids[row] = self.documents.ids[row], f"{origin_id(self.origins[row])}-{digest}"
        return self.documents.ids[row] != before


def origin_id(origin: Origin) -> str:
    """Return the id of a record without an event_id: topic, partition and position."""
    return f"{origin.partition.topic}-{origin.partition.number}-{origin.position}"


class RecordReader:
    """Reads records into batches; larger or deeper ones than ``max_bytes`` and ``max_depth`` are refused."""

    def __init__(self, max_bytes: int, max_depth: int) -> None:
        self._max_bytes = max_bytes
        self._max_depth = max_depth
        self._indices: dict[str, dict[str, str]] = {}  # topic -> "2026-11-30" -> index

    def read(self, chunk: Chunk, batch: RecordBatch) -> None:
        """Append a chunk's records to a batch."""
        documents, known = batch.documents, self._indices.setdefault(chunk.partition.topic, {})
        add_index, add_id, add_body = documents.indices.append, documents.ids.append, documents.bodies.append
        add_origin, loads, max_depth, max_bytes = batch.origins.append, orjson.loads, self._max_depth, self._max_bytes
        for position, time_ms, value in zip(chunk.positions, chunk.times_ms, chunk.values, strict=True):
            origin = Origin(chunk.partition, position, time_ms)
            if value is None or len(value) > max_bytes:
                found = "it has no value" if value is None else f"it has {len(value)} bytes, the limit is {max_bytes}"
                batch.refuse(origin, value, found)
                continue
            try:
                record = loads(value)
                event_id, stamp = record["event_id"], record["@timestamp"]
                index = known[stamp[:10]]
                plain = _is_uuid(event_id) and _is_utc_time(stamp, 10) and b"\n" not in value and b"\r" not in value
                if plain and value.count(b"{") + value.count(b"[") <= max_depth:
                    add_index(index)
                    add_id(event_id)
                    add_body(value)
                    add_origin(origin)
                    batch.size_bytes += len(value)
                    continue
            except (TypeError, KeyError, ValueError):  # not in the form of our own events, or the first event of a day
                pass
            self._read_closely(origin, value, batch)

    def _read_closely(self, origin: Origin, value: bytes, batch: RecordBatch) -> None:
        """Read a record that is not in the form of our own events, or refuse it."""
        try:
            record = self._parse(value)
            body = value.strip().translate(_LINE_BREAKS)
            at = _time_of(record, origin)
        except ValueError as error:
            batch.refuse(origin, value, str(error))
            return
        if "@timestamp" not in record:
            rest = body[1:].lstrip()
            body = b'{"@timestamp":"%s"%s' % (_stamp(at).encode(), rest if rest == b"}" else b"," + rest)
        if body != value:
            batch.originals[len(batch.origins)] = value
        event_id = record.get("event_id")
        if not (isinstance(event_id, str) and _is_uuid(event_id)):
            batch.foreign.add(len(batch.origins))
            event_id = origin_id(origin)
        topic = origin.partition.topic
        index = self._indices[topic].setdefault(f"{at:%Y-%m-%d}", f"{topic}-{at:%Y.%m}")
        batch.documents.indices.append(index)
        batch.documents.ids.append(event_id)
        batch.documents.bodies.append(body)
        batch.origins.append(origin)
        batch.size_bytes += len(body)

    def _parse(self, value: bytes) -> dict[str, Any]:
        try:
            record = orjson.loads(value)
        except orjson.JSONDecodeError as error:
            raise ValueError(f"it is not JSON: {error}") from None
        if not isinstance(record, dict):
            raise ValueError(f"it is not a JSON object but {type(record).__name__}")  # noqa: TRY004  # one kind of refusal
        depth = _depth(record)
        if depth > self._max_depth:
            raise ValueError(f"it is nested {depth} deep, the limit is {self._max_depth}")
        return record


def _depth(value: object) -> int:
    """Return the depth of nesting, found level by level instead of by recursion."""
    depth, level = 0, [value]
    while level := [inner for inner in level if isinstance(inner, dict | list)]:
        depth += 1
        level = [inner for outer in level for inner in (outer.values() if isinstance(outer, dict) else outer)]
    return depth


def _time_of(record: dict[str, Any], origin: Origin) -> datetime:
    """Return the time that selects a record's index: its own, or else the time the log received it."""
    stamp = record.get("@timestamp", origin.time_ms)
    try:
        if isinstance(stamp, str):
            at = datetime.fromisoformat(stamp)
            at = at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
        else:
            at = datetime.fromtimestamp(stamp / 1000, UTC)
    except (TypeError, ValueError, OverflowError, OSError):
        raise ValueError("its @timestamp is neither an ISO 8601 date nor a Unix time in milliseconds") from None
    if not _FIRST_YEAR <= at.year <= _LAST_YEAR:
        raise ValueError(f"its @timestamp lies in the year {at.year}, outside {_FIRST_YEAR} to {_LAST_YEAR}")
    return at


def _stamp(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
