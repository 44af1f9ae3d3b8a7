"""The table of events in SQLite, written by the logshipper.

Readers follow it by ``WHERE position > ? ORDER BY position``: writers are serialised, so positions become visible in
ascending order. ``document`` is the event as its producer encoded it. The generated columns are computed from it on
read; they are NULL if the document is not valid JSON or lacks the field.

Version 2 added ``utc`` and the indices. The logshipper upgrades a database of version 1 when it opens it.
"""

USER_VERSION = 2
"""``PRAGMA user_version`` of a database with this table and its indices."""
OLD_VERSION = 1
"""That of a database without ``utc`` and the indices: it can be read, only slowly."""

# The time must begin like a date: SQLite would take "now" for the current time, which no index may depend on.
UTC = """
CASE WHEN at GLOB '[0-9][0-9][0-9][0-9]-[0-9]*' THEN strftime('%Y-%m-%dT%H:%M:%fZ', at) END
"""
"""``at`` in UTC and to the millisecond, so that times compare as text; NULL if it is no time."""

CREATE_TABLE = f"""
CREATE TABLE IF NOT EXISTS events (
    position INTEGER PRIMARY KEY,  -- order of arrival; the rowid, written out so that VACUUM keeps it
    event_id TEXT NOT NULL UNIQUE,
    topic TEXT NOT NULL,
    document TEXT NOT NULL,  -- JSON
    at TEXT AS (CASE WHEN json_valid(document) THEN json_extract(document, '$."@timestamp"') END) VIRTUAL,
    event TEXT AS (CASE WHEN json_valid(document) THEN json_extract(document, '$.event') END) VIRTUAL,
    run TEXT AS (CASE WHEN json_valid(document) THEN json_extract(document, '$.run') END) VIRTUAL,
    agent INTEGER AS (CASE WHEN json_valid(document) THEN json_extract(document, '$.agent') END) VIRTUAL,
    utc TEXT AS ({UTC}) VIRTUAL
)
"""

ADD_UTC = f"ALTER TABLE events ADD COLUMN utc TEXT AS ({UTC}) VIRTUAL"
"""Gives a table of version 1 its missing column; no row is written."""

CREATE_INDICES = {
    column: f"CREATE INDEX IF NOT EXISTS events_by_{column} ON events ({column})"
    for column in ("utc", "event", "agent")
}
"""The indices by column. SQLite appends the position to each, so that a range of one value is in order of arrival."""
