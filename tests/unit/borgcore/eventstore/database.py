"""A run's events.sqlite as the logshipper has it open."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from borgcore.events.sqlite_table import CREATE_INDICES, CREATE_TABLE, USER_VERSION


@contextmanager
def writing(path: Path) -> Iterator[sqlite3.Connection]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        for statement in (CREATE_TABLE, *CREATE_INDICES.values(), f"PRAGMA user_version = {USER_VERSION}"):
            connection.execute(statement)
        yield connection


def store(connection: sqlite3.Connection, topic: str, documents: Sequence[str]) -> None:
    first = connection.execute("SELECT count(*) FROM events").fetchone()[0]
    rows = [(f"id-{first + n}", topic, document) for n, document in enumerate(documents)]
    connection.executemany("INSERT INTO events (event_id, topic, document) VALUES (?, ?, ?)", rows)
