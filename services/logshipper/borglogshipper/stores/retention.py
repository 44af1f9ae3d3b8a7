"""Deletes events from SQLite that are older than wanted, or the oldest of a database that is too large.

A write deletes a part of them in its own transaction: somewhat more than it wrote, so that the rest is worked off and
no write takes long. Nothing is deleted while nothing is written.
"""

import sqlite3
import time
from datetime import UTC, datetime, timedelta

import structlog

from borgcore.events.timestamp import as_timestamp

MIN_DELETED = 1_000  # by one write, if there are so many
REPORT_PERIOD_S = 60.0
_DELETE_OLD = """
DELETE FROM events WHERE position IN (SELECT position FROM events WHERE utc < ? ORDER BY utc LIMIT ?)
"""
_DELETE_FIRST = """
DELETE FROM events WHERE position IN (SELECT position FROM events ORDER BY position LIMIT ?)
"""
_log = structlog.get_logger()


class Retention:
    """How long events are kept, and how many bytes of them; None is for ever, and without a limit."""

    def __init__(self, days: float | None = None, max_bytes: int | None = None) -> None:
        self._days = days
        self._max_bytes = max_bytes
        self._deleted = 0
        self._reported_s = -REPORT_PERIOD_S

    def apply(self, connection: sqlite3.Connection, written: int) -> int:
        """Delete expired events within the open transaction that wrote ``written`` events; return how many."""
        most = max(MIN_DELETED, 2 * written)
        deleted = 0
        if self._days is not None:
            begin = as_timestamp(datetime.now(UTC) - timedelta(days=self._days))
            deleted += connection.execute(_DELETE_OLD, (begin, most)).rowcount
        if self._max_bytes is not None and _used_bytes(connection) > self._max_bytes:
            deleted += connection.execute(_DELETE_FIRST, (most,)).rowcount
        return deleted

    def report(self, deleted: int) -> None:
        """Count events whose deletion is committed, and log their number now and then."""
        self._deleted += deleted
        if self._deleted and time.monotonic() - self._reported_s >= REPORT_PERIOD_S:
            limits = {"retention_days": self._days, "retention_bytes": self._max_bytes}
            _log.info("expired_events_deleted", count=self._deleted, **limits)
            self._deleted, self._reported_s = 0, time.monotonic()


def _used_bytes(connection: sqlite3.Connection) -> int:
    """Return the size of the database without the pages that deleted events have left free."""
    pages, free, size = (
        connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
    )
    return int((pages - free) * size)
