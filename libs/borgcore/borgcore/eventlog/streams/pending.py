"""Which entries of a stream this process holds."""

from collections.abc import Iterable

from borgcore.eventlog.protocol import Chunk, Partition
from borgcore.eventlog.streams.group import Entry
from borgcore.eventlog.streams.server import FIELD


class PendingEntries:
    """Ids that were handed out and not acknowledged, in the order in which they were handed out.

    That is not the order of the ids: what a dead member left behind comes after newer entries.
    """

    def __init__(self, partition: Partition) -> None:
        """Hold nothing yet of ``partition``."""
        self._partition = partition
        self._ids: dict[str, None] = {}

    def __len__(self) -> int:
        return len(self._ids)

    def hand_out(self, entries: Iterable[Entry]) -> Chunk:
        """Enter what was read, but for what is held already and what was trimmed."""
        chunk = Chunk(self._partition, [], [], [])
        for position, fields in entries:
            if fields and position not in self._ids:
                self._ids[position] = None
                chunk.positions.append(position)
                chunk.times_ms.append(int(position.partition("-")[0]))
                chunk.values.append(fields.get(FIELD))
        return chunk

    def upto(self, position: str) -> list[str]:
        """Everything handed out up to and including ``position``; nothing where that is not held (any more)."""
        if position not in self._ids:
            return []
        found = []
        for held in self._ids:
            found.append(held)
            if held == position:
                break
        return found

    def remove(self, positions: Iterable[str]) -> None:
        """Strike out what was acknowledged."""
        for position in positions:
            self._ids.pop(position, None)
