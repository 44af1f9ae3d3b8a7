"""Tracks the position in a partition, what was deleted before it, and whether its topic was replaced by another.

A topic that is deleted and created again starts at offset 0 again, and aiokafka knows topics only by name. So each
commit stores, as its metadata, the timestamp of the newest committed record. A reader that resumes there reads that
one record again: if its timestamp differs, the topic was replaced and is read from its start.

Offsets have gaps: transactions leave markers, aborted ones their records, and compaction deletes. aiokafka's position
passes them, so it, and not the newest record, is compared with the start of the log to find what was deleted unread.
"""

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from aiokafka import ConsumerRecord, OffsetAndMetadata

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
        self.committed = committed
        """Next offset after the committed records; negative if the group has none."""
        self.expected = max(0, committed)
        """Next offset that was neither read nor deleted."""
        self.end = 0
        """End of the partition when it was last read."""
        self.last: LastRecord | None = None
        """The newest delivered record; after a takeover the newest committed one, if known."""
        self.polled_ms = 0
        """Unix time of the newest reply seen, milliseconds."""
        self._skipped = 0
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
        self.advance(positions[-1] + 1)
        self._skipped -= len(positions)
        self._delivered.append((positions, times_ms))
        return [Chunk(self.partition, [*positions], times_ms, [record.value for record in records])]

    def advance(self, offset: int) -> None:
        """Record that everything before ``offset`` was read."""
        self._skipped += max(0, offset - self.expected)
        self.expected = max(self.expected, offset)

    def take_skipped(self) -> int:
        """Count the offsets read since the last call that have no record."""
        skipped, self._skipped = self._skipped, 0
        return skipped

    def lose_before(self, start: int) -> int:
        """Skip what was deleted before ``start``, the first offset of the partition; return its number."""
        lost = max(0, start - self.expected)
        self.expected += lost
        return lost

    @property
    def caught_up(self) -> bool:
        """Whether all delivered records are committed."""
        return self.last is None or self.last.position < self.committed

    @property
    def oldest_ms(self) -> int | None:
        """Unix time of the oldest record that was delivered and is not committed, milliseconds; None without one."""
        for positions, times_ms in self._delivered:
            row = bisect_left(positions, self.committed)
            if row < len(positions):
                return times_ms[row]
        return None

    def commit_upto(self, record: LastRecord) -> OffsetAndMetadata:
        """Return what to commit after ``record``: behind the newest one, the offsets that have no record as well."""
        newest = self.last is None or record.position >= self.last.position
        return OffsetAndMetadata(self.expected if newest else record.position + 1, str(record.time_ms))

    def find(self, position: int) -> LastRecord | None:
        """Return a record delivered since the assignment, for a commit, or None; records before it are forgotten."""
        while self._delivered and self._delivered[0][0][-1] < position:
            self._delivered.popleft()
        if not self._delivered:
            return None
        positions, times_ms = self._delivered[0]
        row = bisect_right(positions, position) - 1
        return LastRecord(positions[row], times_ms[row]) if row >= 0 and positions[row] == position else None
