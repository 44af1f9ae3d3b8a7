"""The spelling of a time in events: RFC 3339 in UTC, to the millisecond, so that times compare as text."""

from datetime import UTC, datetime


def as_timestamp(at: datetime) -> str:
    """Return an aware time as, for example, 2026-11-28T10:00:00.000Z."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
