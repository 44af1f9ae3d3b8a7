"""The event log's interface for publishers and readers, the same for Kafka and Redis Streams."""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from borgcore.errors import EventLogError

Position = int | str
"""A record's position in its partition: Kafka's offset, or the id of a stream's entry."""
Revoked = Callable[[Collection["Partition"]], Awaitable[None]]


class Partition(NamedTuple):
    """One ordered piece of the log; a Redis stream is the one partition 0 of its topic."""

    topic: str
    number: int


class Outgoing(NamedTuple):
    """An encoded event to be sent to the log."""

    topic: str
    key: bytes
    """The run and its producer; events of one key stay in order."""
    value: bytes


class Refusal(NamedTuple):
    """Why the log can never take an event."""

    reason: str
    """One line that names the topic, what was found and what the log takes."""
    limit_bytes: int | None = None
    """The limit, if the event is too large for one that is known."""


class EventsRefusedError(EventLogError):
    """The log can never take some of the events sent; it has all others."""

    def __init__(self, refusals: Mapping[int, Refusal]) -> None:
        """Take at least one refusal, by the row of its event among those sent."""
        self.refusals = refusals
        first = next(iter(refusals.values()))
        super().__init__(f"the log refused {len(refusals)} of the events and has the others; first: {first.reason}")


@dataclass(frozen=True, slots=True)
class Chunk:
    """Consecutive records of one partition, oldest first, as columns of equal length."""

    partition: Partition
    positions: list[Position]
    times_ms: list[int]
    """Unix time at which each record was written, milliseconds."""
    values: list[bytes | None]
    """None for a record without a value: a Kafka tombstone, or a stream entry that is not ours."""


class Loss(NamedTuple):
    """Records of one partition that the log deleted before the group had read them."""

    partition: Partition
    records: int
    """How many; Kafka counts transaction markers as well."""
    reason: str
    """One of the reasons of ``events_dropped``."""


class RetentionUse(NamedTuple):
    """How near the group's oldest unread record is to being deleted by the log."""

    share: float = 0.0
    """Share of the log's limit that is used: at 1 the record may be deleted; 0 if nothing is unread or all is kept."""
    text: str = ""
    """The record and the limit, for a warning."""


MakeTrimReport = Callable[[str, int], Outgoing]
"""Makes the event that reports how many entries of a topic were trimmed."""


class Sender(Protocol):
    """Sends events to the log."""

    async def send(self, events: Sequence[Outgoing]) -> None:
        """Return when the log has all of ``events``.

        After any other error than EventsRefusedError send all of them again; some may then be in the log twice.

        Raises:
            EventsRefusedError: the log can never take some of them, and has all others.
            EventLogError: the log does not have all of them.
        """

    async def report_trimmed(self, make_report: MakeTrimReport) -> Mapping[str, int]:
        """Send one event per topic about entries trimmed unread and not reported yet; return their number by topic.

        Kafka applies its own retention, so nothing is reported there.

        Raises:
            EventLogError: the log did not answer, or refuses us; a later call reports the rest.
        """


class DeadLetterLog(Protocol):
    """Takes dead letters."""

    async def send_dead_letters(self, dead_letters: Sequence[bytes]) -> None:
        """Send records that can never be indexed to the topic ``dead_letter``; return when the log has them.

        Raises:
            EventsRefusedError: the log can never take some of them, and has all others.
            EventLogError: the log does not have all of them.
        """


class Consumer(DeadLetterLog, Protocol):
    """Reads the log as one member of a group; the group never reads committed records again."""

    @property
    def outage(self) -> str | None:
        """Why the log cannot be read at present; reading resumes by itself. None while it can be read."""

    async def fetch(self, max_records: int, wait_s: float) -> list[Chunk]:
        """Return the next records, at most ``max_records`` in all; an empty list after ``wait_s`` without any.

        Call it at least every few seconds, even while paused: it keeps the membership.

        Raises:
            EventLogError: the log refuses us, another member has our name, or Redis was unavailable for longer than
                ``outage_s``. An outage of Kafka is no error, however long.
        """

    def pause(self) -> None:
        """Fetch nothing until :meth:`resume`, but stay a member."""

    def resume(self) -> None:
        """Fetch again."""

    async def commit(self, upto: Mapping[Partition, Position]) -> None:
        """Record that everything up to and including these positions is done.

        Partitions that now belong to another member are left out.

        Raises:
            EventLogError: the commit failed; the records are read again after a restart.
        """

    async def lag(self) -> int:
        """Count the records that the group has not committed yet."""

    def take_losses(self) -> list[Loss]:
        """Return the losses noticed since the last call, so that the caller reports them.

        Trimmed entries of Redis' streams are not among them: senders report those, see :meth:`Sender.report_trimmed`.
        """

    async def retention_use(self) -> RetentionUse:
        """Find how near the oldest unread record is to being deleted.

        Raises:
            EventLogError: the log did not answer, or refuses us.
        """
