"""The table of events in SQLite, written by the logshipper.

Readers follow it by ``WHERE position > ? ORDER BY position``: writers are serialised, so positions become visible in
ascending order. ``document`` is the event as its producer encoded it. The generated columns are computed from it on
read; they are NULL if the document is not valid JSON or lacks the field.

Version 2 added ``month``, ``utc`` and the indices. The logshipper upgrades a database of version 1 when it opens it.
"""

USER_VERSION = 2
"""``PRAGMA user_version`` of a database with this table."""
OLD_VERSION = 1
"""That of a database without indices, whose ids are unique over all topics and months: it can be read, only slowly."""
READABLE = frozenset({OLD_VERSION, USER_VERSION})
"""Versions whose columns a reader finds."""

# The time must begin like a date: SQLite would take "now" for the current time, which no index may depend on. It is cut
# off at the millisecond as in Elasticsearch; SQLite alone would round it.
UTC = """
CASE WHEN at GLOB '[0-9][0-9][0-9][0-9]-[0-9]*' THEN strftime('%Y-%m-%dT%H:%M:%fZ',
    CASE WHEN at GLOB '*.[0-9][0-9][0-9][0-9]*'
    THEN substr(at, 1, 23) || ltrim(substr(at, 24), '0123456789') ELSE at END)
END
"""
"""``at`` in UTC and to the millisecond, so that times compare as text; NULL if it is no time."""

CREATE_TABLE = f"""
CREATE TABLE IF NOT EXISTS events (
    position INTEGER PRIMARY KEY,  -- order of arrival; the rowid, written out so that VACUUM keeps it
    event_id TEXT NOT NULL,
    topic TEXT NOT NULL,
    month TEXT NOT NULL DEFAULT '',  -- of the time in UTC: 2026.11
    document TEXT NOT NULL,  -- JSON
    at TEXT AS (CASE WHEN json_valid(document) THEN json_extract(document, '$."@timestamp"') END) VIRTUAL,
    event TEXT AS (CASE WHEN json_valid(document) THEN json_extract(document, '$.event') END) VIRTUAL,
    run TEXT AS (CASE WHEN json_valid(document) THEN json_extract(document, '$.run') END) VIRTUAL,
    agent INTEGER AS (CASE WHEN json_valid(document) THEN json_extract(document, '$.agent') END) VIRTUAL,
    utc TEXT AS ({UTC}) VIRTUAL,
    UNIQUE (event_id, topic, month)  -- as in Elasticsearch, where each topic and month has an index of its own
)
"""

CREATE_INDICES = {
    column: f"CREATE INDEX IF NOT EXISTS events_by_{column} ON events ({column})"
    for column in ("utc", "event", "agent")
}
"""The indices by column. SQLite appends the position to each, so that a range of one value is in order of arrival."""

UPGRADE = (
    "ALTER TABLE events RENAME TO events_1",
    CREATE_TABLE,
    """
    INSERT INTO events (position, event_id, topic, month, document)
    SELECT position, event_id, topic, coalesce(strftime('%Y.%m', at), ''), document FROM events_1
    """,
    "DROP TABLE events_1",
    *CREATE_INDICES.values(),
)
"""Statements that turn the table of version 1 into this one."""
