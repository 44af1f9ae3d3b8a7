"""Turn a record of the log into a document of the store, or into the reason why it can never be one.

The value passes through unchanged: it is parsed once to check that it is a JSON object, and never encoded again.
"""

import hashlib
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import orjson

from borgcore.eventlog.protocol import Chunk
from borgcore.events.timestamp import as_timestamp
from borgcore.events.topics import index_name
from borglogshipper.pipeline.record_id import NIL, Origin, is_canonical, origin_id, read_uuid
from borglogshipper.pipeline.record_time import TIME_KEY, is_utc_time, read_time
from borglogshipper.stores.store import Documents

_LINE_BREAKS = bytes.maketrans(b"\n\r", b"  ")  # in valid JSON they occur only between tokens


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
    """Rows of documents without a UUID as their event_id; their id is derived from their origin."""
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
                plain = is_canonical(event_id) and is_utc_time(stamp, 10) and b"\n" not in value and b"\r" not in value
                shallow = value.count(b"{") + value.count(b"[") <= max_depth
                if plain and shallow and event_id != NIL and value.count(TIME_KEY) == 1:
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
            at = read_time(record, value, origin.time_ms)
        except ValueError as error:
            batch.refuse(origin, value, str(error))
            return
        if "@timestamp" not in record:
            rest = body[1:].lstrip()
            body = b'{"@timestamp":"%s"%s' % (as_timestamp(at).encode(), rest if rest == b"}" else b"," + rest)
        if body != value:
            batch.originals[len(batch.origins)] = value
        event_id = read_uuid(record.get("event_id"))
        if event_id is None:
            batch.foreign.add(len(batch.origins))
            event_id = origin_id(origin)
        topic = origin.partition.topic
        index = self._indices[topic].setdefault(f"{at:%Y-%m-%d}", index_name(topic, at))
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
