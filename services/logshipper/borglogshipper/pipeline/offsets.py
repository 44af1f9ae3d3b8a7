"""Track which records are done: a position may be committed once everything up to it is done."""

from collections import deque
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from borgcore.eventlog.protocol import Partition, Position


@dataclass(slots=True)
class Span:
    """Consecutive records of one partition, under way together."""

    partition: Partition
    upto: Position
    """Position of the last record."""
    records: int
    done: bool = False


class Offsets:
    """The spans of every partition in the order in which they were read."""

    def __init__(self) -> None:
        self._open: dict[Partition, deque[Span]] = {}
        self._due: dict[Partition, Position] = {}
        self.entered = 0
        """Records under way, or done but behind others under way."""

    def begin(self, partition: Partition, upto: Position, records: int) -> Span:
        """Add records as they are read; call it in the order of their partition."""
        span = Span(partition, upto, records)
        self._open.setdefault(partition, deque()).append(span)
        self.entered += records
        return span

    def finish(self, spans: Iterable[Span]) -> None:
        """Mark spans as done: every record is in the store or in ``dead_letter``."""
        for span in spans:
            span.done = True
            waiting = self._open.get(span.partition, ())
            while waiting and waiting[0].done:
                first = waiting.popleft()
                self._due[span.partition] = first.upto
                self.entered -= first.records

    def due(self) -> dict[Partition, Position]:
        """Return the positions that may be committed and are not committed yet."""
        return dict(self._due)

    def committed(self, upto: dict[Partition, Position]) -> None:
        """Remove committed positions, unless newer ones have become due."""
        for partition, position in upto.items():
            if self._due.get(partition) == position:
                del self._due[partition]

    def forget(self, partitions: Collection[Partition]) -> None:
        """Remove partitions that another member owns now; their spans are ignored if they finish later."""
        for partition in partitions:
            self.entered -= sum(span.records for span in self._open.pop(partition, ()))
            self._due.pop(partition, None)

    def unfinished(self, partitions: Collection[Partition] | None = None) -> int:
        """Count the records under way in some partitions, or in all."""
        spans = (
            span for key, waiting in self._open.items() if partitions is None or key in partitions for span in waiting
        )
        return sum(span.records for span in spans if not span.done)
