"""Chooses how many entries to read at once: COUNT limits their number, but not their size."""

from collections.abc import Mapping, Sequence

REPLY_BYTES = 4 << 20  # the size to aim at
FIRST_ENTRIES = 64  # until their size is known
MOST_ENTRIES = 500  # more gain no speed, may suddenly be large, and reclaim.lua cannot unpack over 3,999


class FetchSize:
    """Number of entries to request from all streams together, derived from the last reply.

    Four times as many as came, since often only one of several streams has any, but no more than fit ``REPLY_BYTES``.
    """

    def __init__(self) -> None:
        self.entries = FIRST_ENTRIES

    def learn(self, fields: Sequence[Mapping[bytes, bytes] | None]) -> None:
        """Adapt to a reply, given the fields of its entries; None for a trimmed entry."""
        if not fields:
            return
        size_bytes = sum(len(value) for found in fields if found for value in found.values())
        fitting = len(fields) * REPLY_BYTES // max(1, size_bytes)
        wanted = max(FIRST_ENTRIES, 4 * len(fields))
        self.entries = max(1, min(wanted, fitting, MOST_ENTRIES))
