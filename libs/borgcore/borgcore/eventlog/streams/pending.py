"""Keeps track of the entries of a stream that this process has not acknowledged yet."""

from collections.abc import Iterable

from borgcore.eventlog.protocol import Chunk, Partition
from borgcore.eventlog.streams.group import Entry
from borgcore.eventlog.streams.server import FIELD


class PendingEntries:
    """Ids handed out and not acknowledged yet, in the order in which they were handed out.

    That may differ from the order of the ids: entries reclaimed from a dead member come after newer ones.
    """

    def __init__(self, partition: Partition) -> None:
        """Begin without entries of ``partition``."""
        self._partition = partition
        self._ids: dict[str, None] = {}
        self._gone: set[str] = set()

    def __len__(self) -> int:
        return len(self._ids)

    def hand_out(self, entries: Iterable[Entry]) -> Chunk:
        """Add entries and return them as a chunk, without those already held and those trimmed."""
        chunk = Chunk(self._partition, [], [], [])
        for position, fields in entries:
            if fields and position not in self._ids:
                self._ids[position] = None
                chunk.positions.append(position)
                chunk.times_ms.append(int(position.partition("-")[0]))
                chunk.values.append(fields.get(FIELD))
        return chunk

    def upto(self, position: str) -> list[str]:
        """Return the ids handed out up to and including ``position``; none if that is not held."""
        if position not in self._ids:
            return []
        found = []
        for held in self._ids:
            found.append(held)
            if held == position:
                break
        return found

    def count_gone(self, first: str) -> int:
        """Count the ids held before ``first``, the stream's first entry, that no earlier call counted."""
        gone = {held for held in self._ids if first == "-" or _order(held) < _order(first)} - self._gone
        self._gone |= gone
        return len(gone)

    def remove(self, positions: Iterable[str]) -> None:
        """Remove acknowledged ids."""
        for position in positions:
            self._ids.pop(position, None)
            self._gone.discard(position)


def _order(entry: str) -> tuple[int, int]:
    ms, _, number = entry.partition("-")
    return int(ms), int(number)
