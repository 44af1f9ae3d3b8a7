"""The table of events in SQLite, as the logshipper writes it and readers read it.

A reader follows it by ``WHERE position > ? ORDER BY position``: writers take turns, so positions appear in the order in
which they were given. ``document`` is the event as its producer encoded it. The other columns are computed from it as
they are read, and are NULL where the document has no such field or SQLite cannot read it.
"""

USER_VERSION = 1
"""``PRAGMA user_version`` of a database with this table; another one is not for this code."""

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
