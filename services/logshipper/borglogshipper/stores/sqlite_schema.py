"""Creates the table of events in a database, or upgrades one of an older version in place.

Each step is a transaction and can be repeated: an upgrade that was killed goes on with the next start. Others may read
the database meanwhile.
"""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import structlog

from borgcore.events.sqlite_table import ADD_UTC, CREATE_INDICES, CREATE_TABLE, OLD_VERSION, USER_VERSION

PROGRESS_S = 2.0  # between two messages about a step under way
_INSTRUCTIONS = 1_000_000  # of SQLite's virtual machine, between two looks at the clock: some 20 ms
_SET_VERSION = f"PRAGMA user_version = {USER_VERSION}"
_log = structlog.get_logger()


def bring_up_to_date(connection: sqlite3.Connection, path: Path) -> None:
    """Create what is missing; the version is set last."""
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version == OLD_VERSION:
        _upgrade(connection, path)
    elif version != USER_VERSION:
        with _transaction(connection):
            for statement in (CREATE_TABLE, *CREATE_INDICES.values(), _SET_VERSION):
                connection.execute(statement)


def _upgrade(connection: sqlite3.Connection, path: Path) -> None:
    with _transaction(connection):
        columns = {row[1] for row in connection.execute("PRAGMA table_xinfo(events)")}
        if "utc" not in columns:
            connection.execute(ADD_UTC)
    began_s = time.monotonic()
    for number, (column, create) in enumerate(CREATE_INDICES.items(), start=1):
        step = {"path": str(path), "index": column, "step": f"{number}/{len(CREATE_INDICES)}"}
        with _reporting(connection, step), _transaction(connection):
            connection.execute(create)
    connection.execute(_SET_VERSION)
    seconds = round(time.monotonic() - began_s, 1)
    _log.info("database_upgraded", path=str(path), found=OLD_VERSION, now=USER_VERSION, seconds=seconds)


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):  # a full disk has already rolled it back
            connection.execute("ROLLBACK")
        raise


@contextmanager
def _reporting(connection: sqlite3.Connection, step: dict[str, str]) -> Iterator[None]:
    began_s = told_s = time.monotonic()

    def report() -> int:
        nonlocal told_s
        now_s = time.monotonic()
        if now_s - told_s >= PROGRESS_S:
            told_s = now_s
            _log.info("database_upgrading", **step, seconds=round(now_s - began_s, 1))
        return 0  # go on

    connection.set_progress_handler(report, _INSTRUCTIONS)
    try:
        yield
    finally:
        connection.set_progress_handler(None, 0)
