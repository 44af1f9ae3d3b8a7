"""How much to ask a stream for at once: its COUNT is of entries, and says nothing of their size."""

from collections.abc import Mapping, Sequence

REPLY_BYTES = 4 << 20  # aimed at
FIRST_ENTRIES = 64  # while nothing is known of their size
MOST_ENTRIES = 500  # more make no reader faster, may suddenly be large ones, and reclaim.lua cannot unpack over 3,999


class FetchSize:
    """Entries to ask for, in all streams together, by what the last reply was.

    Four times as many as came, since of several streams often one alone has any, and no more than have ``REPLY_BYTES``.
    """

    def __init__(self) -> None:
        self.entries = FIRST_ENTRIES

    def learn(self, fields: Sequence[Mapping[bytes, bytes] | None]) -> None:
        """Take note of the fields of a reply's entries; None where one was trimmed."""
        if not fields:
            return
        size_bytes = sum(len(value) for found in fields if found for value in found.values())
        fitting = len(fields) * REPLY_BYTES // max(1, size_bytes)
        wanted = max(FIRST_ENTRIES, 4 * len(fields))
        self.entries = max(1, min(wanted, fitting, MOST_ENTRIES))
