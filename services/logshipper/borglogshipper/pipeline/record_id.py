"""The id of a record's document: its ``event_id`` if that is a UUID, in whatever spelling."""

import re
from typing import NamedTuple

from borgcore.eventlog.protocol import Partition, Position

is_canonical = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}").fullmatch
_is_uuid = re.compile(
    r"(?:urn:uuid:)?(\{)?([0-9a-f]{8})(-?)([0-9a-f]{4})\3([0-9a-f]{4})\3([0-9a-f]{4})\3([0-9a-f]{12})(?(1)\})",
    re.IGNORECASE | re.ASCII,
).fullmatch
NIL = "00000000-0000-0000-0000-000000000000"  # RFC 9562: the absence of a UUID


class Origin(NamedTuple):
    """The position of a record in the log."""

    partition: Partition
    position: Position
    time_ms: int


def origin_id(origin: Origin) -> str:
    """Return the id of a record without a UUID as its event_id: topic, partition and position."""
    return f"{origin.partition.topic}-{origin.partition.number}-{origin.position}"


def read_uuid(event_id: object) -> str | None:
    """Return a UUID as its lower-case text with dashes; None for anything else, and for the nil UUID.

    Read are upper and lower case, with and without dashes, in braces, and after ``urn:uuid:``.
    """
    found = _is_uuid(event_id) if isinstance(event_id, str) else None
    if found is None:
        return None
    uuid = "-".join(found.group(2, 4, 5, 6, 7)).lower()
    return None if uuid == NIL else uuid
