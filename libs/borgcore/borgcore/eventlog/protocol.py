"""The event log as publishers and readers see it, whichever it is."""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

Position = int | str
"""Where a record stands in its partition: Kafka's offset, or the id of a stream's entry."""
Revoked = Callable[[Collection["Partition"]], Awaitable[None]]


class Partition(NamedTuple):
    """One ordered piece of the log; a Redis stream is the one partition 0 of its topic."""

    topic: str
    number: int


class Outgoing(NamedTuple):
    """An encoded event on its way into the log."""

    topic: str
    key: bytes
    """Events of one key stay in order: the run and its producer."""
    value: bytes


@dataclass(frozen=True, slots=True)
class Chunk:
    """Consecutive records of one partition, oldest first, as columns of one length."""

    partition: Partition
    positions: list[Position]
    times_ms: list[int]
    """Unix time at which each was written, milliseconds."""
    values: list[bytes | None]
    """None: a record without a value (a Kafka tombstone, a stream entry that is not ours)."""


Tell = Callable[[str, int], Outgoing]
"""Makes the event that says how many entries of a topic were trimmed."""


class Sender(Protocol):
    """Puts events into the log."""

    async def send(self, events: Sequence[Outgoing]) -> None:
        """Return when the log has all of them; after an error all may be sent again, some of them twice.

        Raises:
            EventLogError: it has not.
        """

    async def report_trimmed(self, tell: Tell) -> Mapping[str, int]:
        """Put into the log what it had to trim unread and nobody has told yet; returns the entries told, by topic.

        Kafka's retention is its own matter: there, nothing is counted.

        Raises:
            EventLogError: the log gave no answer, or refuses us; what is not told yet is told by a later call.
        """


class Consumer(Protocol):
    """Reads the log as one member of a group; what is committed is never read again by the group."""

    @property
    def outage(self) -> str | None:
        """Why nothing can be read at present; it goes on by itself. None where it can be read."""

    async def fetch(self, max_records: int, wait_s: float) -> list[Chunk]:
        """Return the next records, at most ``max_records`` in all; none after ``wait_s`` seconds without any.

        To be called at least every few seconds, also when everything is paused: that is what keeps the membership.

        Raises:
            EventLogError: the log refuses us, another has our name, or Redis was away for longer than ``outage_s``.
                That Kafka is away is no error, however long.
        """

    def pause(self) -> None:
        """Fetch nothing until :meth:`resume`, and stay a member."""

    def resume(self) -> None:
        """Fetch again."""

    async def commit(self, upto: Mapping[Partition, Position]) -> None:
        """Record that everything up to and including these positions is done. Partitions that are another's by now
        are left out.

        Raises:
            EventLogError: the log did not take it; what was to be committed is read again after a restart.
        """

    async def send_dead_letters(self, letters: Sequence[bytes]) -> None:
        """Put records that can never be indexed into the topic ``dead_letter``; returns when the log has them.

        Raises:
            EventLogError: it has not.
        """

    async def lag(self) -> int:
        """Count the records that the group has not committed yet."""
