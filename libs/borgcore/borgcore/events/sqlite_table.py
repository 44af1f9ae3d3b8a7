"""The table of events in SQLite, written by the logshipper.

Readers follow it by ``WHERE position > ? ORDER BY position``: writers are serialised, so positions become visible in
ascending order. ``document`` is the event as its producer encoded it. The generated columns are computed from it on
read; they are NULL if the document is not valid JSON or lacks the field.
"""

USER_VERSION = 1
"""``PRAGMA user_version`` of a database with this table; this code reads no other version."""

CREATE_TABLE = """
CREATE TABLE IF NOT EXISTS events (
    position INTEGER PRIMARY KEY,  -- order of arrival; the rowid, written out so that VACUUM keeps it
    event_id TEXT NOT NULL UNIQUE,
    topic TEXT NOT NULL,
    document TEXT NOT NULL,  -- JSON
    at TEXT AS (CASE WHEN json_valid(document) THEN json_extract(document, '$."@timestamp"') END) VIRTUAL,
    event TEXT AS (CASE WHEN json_valid(document) THEN json_extract(document, '$.event') END) VIRTUAL,
    run TEXT AS (CASE WHEN json_valid(document) THEN json_extract(document, '$.run') END) VIRTUAL,
    agent INTEGER AS (CASE WHEN json_valid(document) THEN json_extract(document, '$.agent') END) VIRTUAL
)
"""
