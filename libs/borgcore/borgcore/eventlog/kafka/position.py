"""Where reading stands in a partition, and whether the partition is still the one that it was.

A topic that is deleted and created again counts its offsets from 0 again, and aiokafka knows topics only by name. So
each commit carries, as its metadata, the time at which the newest committed record was written. Whoever goes on from
there reads that one record again, the last: if it is not the same, the topic is another, and is read from its start.
"""

from bisect import bisect_right
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from aiokafka import ConsumerRecord

from borgcore.eventlog.protocol import Chunk, Partition


class LastRecord(NamedTuple):
    """A record by which a partition is known again."""

    position: int
    time_ms: int


class PartitionPosition:
    """How far one partition was delivered and committed while it was ours."""

    def __init__(self, partition: Partition, committed: int, metadata: str) -> None:
        """Begin where the group had got to: ``committed`` is the next offset, negative where there is none."""
        self.partition = partition
        self.committed = max(0, committed)
        """Next offset after what the group has committed."""
        self.last: LastRecord | None = None
        """The newest record that was delivered."""
        self.polled_ms = 0
        """Unix time of the last reply that was seen, milliseconds."""
        self._checking = False
        self._delivered: deque[tuple[list[int], list[int]]] = deque()
        if committed > 0 and metadata.isdecimal():  # other tools that commit leave it empty
            self.last = LastRecord(committed - 1, int(metadata))

    def is_other(self, record: ConsumerRecord) -> bool:
        """Whether the first record of a reply shows that this is not the partition we knew."""
        if self.last is None:
            return False
        if self._checking and record.offset == self.last.position:
            return bool(record.timestamp != self.last.time_ms)
        return bool(record.offset <= self.last.position)

    def begin_check(self) -> LastRecord | None:
        """Expect the last as the next record; returns it, where there is one."""
        self._checking = self.last is not None
        return self.last

    def forget(self) -> Partition:
        """Forget what was delivered: it was of another partition of this name, and is not to be committed."""
        self._delivered.clear()
        return self.partition

    def deliver(self, records: Sequence[ConsumerRecord]) -> list[Chunk]:
        """Make a chunk of records, at least one; the last is left out, and of it alone nothing is made."""
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
        """Find a record that was delivered since the partition became ours, for a commit; what is before it goes."""
        while self._delivered and self._delivered[0][0][-1] < position:
            self._delivered.popleft()
        if not self._delivered:
            return None
        positions, times_ms = self._delivered[0]
        row = bisect_right(positions, position) - 1
        return LastRecord(positions[row], times_ms[row]) if row >= 0 and positions[row] == position else None
