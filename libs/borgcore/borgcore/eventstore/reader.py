"""Reading events back, independent of the kind of store."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True)
class EventFilter:
    """Which events are wanted; a field that is None matches all, but ``topic`` then no dead letters."""

    topic: str | None = None
    agent: int | None = None
    event: str | None = None
    since: datetime | None = None


class EventReader(Protocol):
    """The wanted events of one run, in order of arrival; each ``read`` continues where the one before ended."""

    def skip_to_last(self, last: int) -> None:
        """Begin with the ``last`` newest events."""

    def read(self) -> Iterator[str]:
        """Yield the documents that are there now, as they were stored: one JSON object each."""
