"""The event store as the pipeline sees it, independent of its kind."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from borgcore.errors import BorgError


class Outcome(Enum):
    """The outcome for a document that was not newly stored."""

    PRESENT = "present"
    """A document with this id exists already (409)."""
    REFUSED = "refused"
    """It can never be stored (400)."""
    BUSY = "busy"
    """Not now (429, 5xx): send this one again."""
    HELD = "held"
    """Not until a person has fixed something (403, 404, a closed or read-only index, a full disk, no shards left)."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome of one document, with the store's reason, which names the index."""

    outcome: Outcome
    reason: str = ""


@dataclass(slots=True)
class Documents:
    """Documents of one write, as columns of equal length."""

    indices: list[str]
    """``<topic>-<year>.<month>``."""
    ids: list[str]
    """Printable ASCII without quotes and backslashes, at most 512 characters; unique within their index."""
    bodies: list[bytes]
    """One valid JSON object each, without line breaks."""

    def __len__(self) -> int:
        return len(self.ids)

    def pick(self, rows: Sequence[int]) -> "Documents":
        """Return the documents at these rows, in this order."""
        columns = (self.indices, self.ids, self.bodies)
        return Documents(*([column[row] for row in rows] for column in columns))  # type: ignore[arg-type]  # as above


class StoreBusyError(BorgError):
    """The store is unreachable, too slow, or overloaded (429, 5xx): send all of it again."""

    exit_code = 3


class StoreHeldError(BorgError):
    """The store refuses us until a person has fixed something: credentials, permissions, a missing index."""

    exit_code = 3


class StoreTooLargeError(BorgError):
    """The request is larger than the store takes (413): send it in parts."""


class StoreRefusedError(BorgError):
    """This request as a whole is refused (400), others are not: a document in it causes that; send it in parts."""


class Store(Protocol):
    """Stores documents; writing one again under its id changes nothing."""

    keeps_dead_letters: bool
    """Whether dead letters are copied to it, as documents of the topic ``dead_letter``."""

    async def check(self) -> str:
        """Verify address, credentials and version; return a description, such as "Elasticsearch 8.19.21 at …".

        Raises:
            StoreBusyError: it does not answer.
            StoreHeldError: it refuses us, or its version is not supported.
        """

    async def prepare(self) -> None:
        """Install what documents need (index templates, tables); repeating it changes nothing.

        Raises:
            StoreBusyError: it does not answer.
            StoreHeldError: it refuses us.
        """

    async def write(self, documents: Documents) -> Mapping[int, Verdict]:
        """Create missing documents; return a verdict, by row, for each document that was not created.

        Raises:
            StoreBusyError: unknown what was stored: send all of it again.
            StoreHeldError: nothing was stored, nor will be until a person has fixed something.
            StoreTooLargeError: nothing was stored: send it in parts.
            StoreRefusedError: the same.
        """

    async def read(self, indices: Sequence[str], ids: Sequence[str]) -> list[bytes | None]:
        """Fetch documents as JSON; None for each that is missing.

        Raises:
            StoreBusyError, StoreHeldError: as in :meth:`write`.
        """
