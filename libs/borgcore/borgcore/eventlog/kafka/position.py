"""Tracks the position in a partition and detects that its topic was replaced by another of the same name.

A topic that is deleted and created again starts at offset 0 again, and aiokafka knows topics only by name. So each
commit stores, as its metadata, the timestamp of the newest committed record. A reader that resumes there reads that
one record again: if its timestamp differs, the topic was replaced and is read from its start.
"""

from bisect import bisect_right
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from aiokafka import ConsumerRecord

from borgcore.eventlog.protocol import Chunk, Partition


class LastRecord(NamedTuple):
    """The newest record of a partition, by which the partition is verified."""

    position: int
    time_ms: int


class PartitionPosition:
    """How far one assigned partition was delivered and committed."""

    def __init__(self, partition: Partition, committed: int, metadata: str) -> None:
        """Resume at ``committed``, the next offset, negative if the group has none; ``metadata`` is the commit's."""
        self.partition = partition
        self.committed = max(0, committed)
        """Next offset after the committed records."""
        self.last: LastRecord | None = None
        """The newest delivered record; after a takeover the newest committed one, if known."""
        self.polled_ms = 0
        """Unix time of the newest reply seen, milliseconds."""
        self._checking = False
        self._delivered: deque[tuple[list[int], list[int]]] = deque()
        if committed > 0 and metadata.isdecimal():  # commits of other tools have no timestamp
            self.last = LastRecord(committed - 1, int(metadata))

    def is_other(self, record: ConsumerRecord) -> bool:
        """Return whether the first record of a reply shows that the partition was replaced."""
        if self.last is None:
            return False
        if self._checking and record.offset == self.last.position:
            return bool(record.timestamp != self.last.time_ms)
        return bool(record.offset <= self.last.position)

    def begin_check(self) -> LastRecord | None:
        """Expect the last record to come again; return it, or None if there is none to compare with."""
        self._checking = self.last is not None
        return self.last

    def forget(self) -> Partition:
        """Return the partition, and forget its delivered records: it was replaced, so they must not be committed."""
        self._delivered.clear()
        return self.partition

    def deliver(self, records: Sequence[ConsumerRecord]) -> list[Chunk]:
        """Make a chunk of the records, without the one that was only read again for the check."""
        if self._checking:
            self._checking = False
            if self.last is not None and records[0].offset == self.last.position:
                records = records[1:]
        if not records:
            return []
        positions = [record.offset for record in records]
        times_ms = [record.timestamp for record in records]
        self.last = LastRecord(positions[-1], times_ms[-1])
        self._delivered.append((positions, times_ms))
        return [Chunk(self.partition, [*positions], times_ms, [record.value for record in records])]

    def find(self, position: int) -> LastRecord | None:
        """Return a record delivered since the assignment, for a commit, or None; records before it are forgotten."""
        while self._delivered and self._delivered[0][0][-1] < position:
            self._delivered.popleft()
        if not self._delivered:
            return None
        positions, times_ms = self._delivered[0]
        row = bisect_right(positions, position) - 1
        return LastRecord(positions[row], times_ms[row]) if row >= 0 and positions[row] == position else None
