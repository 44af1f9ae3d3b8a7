"""The time of a record: RFC 3339 in the spelling that every store reads as the same instant.

Elasticsearch and SQLite disagree about other spellings: Elasticsearch reads "20261128" as
milliseconds since 1970, and SQLite reads 30 February as 2 March. Both read this one alike, to the millisecond.
"""

import json
import re
from datetime import UTC, datetime
from typing import Any

import orjson

FIRST_YEAR, LAST_YEAR = 2000, 2099  # one index per month: a producer's wrong clock must not create millions
LONGEST_SHOWN = 60  # characters of a time that is refused
_CLOCK = r"T(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{1,9})?"
is_utc_time = re.compile(_CLOCK + "Z").fullmatch
"""Matches what follows the date of a time in UTC."""
_is_time = re.compile(rf"[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}{_CLOCK}(?:Z|[+-](?:0[0-9]|1[0-4]):[0-5][0-9])").fullmatch
TIME_KEY = b'"@timestamp"'
_EXPECTED = "expected RFC 3339 with a zone, such as 2026-11-28T10:00:00.000Z or 2026-11-28T11:00:00+01:00"


def read_time(record: dict[str, Any], value: bytes, log_ms: int) -> datetime:
    """Return the time in UTC that selects a record's index: its own, or else the time the log received it.

    Raises:
        ValueError: the record has no time that every store reads alike.
    """
    if "@timestamp" not in record:
        return _read_log_time(log_ms)
    if (literal := value.count(TIME_KEY)) != 1 and not (literal and _count_keys(value) == 1):
        raise ValueError("its key @timestamp is repeated or written with escapes, which stores read differently")
    stamp = record["@timestamp"]
    if not (isinstance(stamp, str) and _is_time(stamp)):
        raise ValueError(f"its @timestamp is {_show(stamp)}, {_EXPECTED}")
    try:
        at = datetime.fromisoformat(stamp).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(f"its @timestamp is {_show(stamp)}, which is no day of the calendar; {_EXPECTED}") from None
    if not FIRST_YEAR <= at.year <= LAST_YEAR:
        raise ValueError(f"its @timestamp lies in the year {at.year}, outside {FIRST_YEAR} to {LAST_YEAR}")
    return at


def _read_log_time(log_ms: int) -> datetime:
    try:
        at = datetime.fromtimestamp(log_ms / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        at = None
    if at is None or not FIRST_YEAR <= at.year <= LAST_YEAR:
        raise ValueError(
            f"it has no @timestamp, and the log's own time for it, {log_ms} ms, is unset or outside the years "
            f"{FIRST_YEAR} to {LAST_YEAR}"
        )
    return at


def _count_keys(value: bytes) -> int:
    """Count the keys ``@timestamp`` of an object, but not those of objects in it."""
    pairs = json.loads(value, object_pairs_hook=list, parse_int=str)
    return sum(key == "@timestamp" for key, _ in pairs)


def _show(stamp: object) -> str:
    text = orjson.dumps(stamp).decode()
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}…"
