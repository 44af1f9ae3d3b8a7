"""Creates the table of events in a database, or upgrades one of an older version in place.

An upgrade is one transaction: killed, it begins again with the next start. Others may read the database meanwhile.
"""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import structlog

from borgcore.events.sqlite_table import CREATE_INDICES, CREATE_TABLE, OLD_VERSION, UPGRADE, USER_VERSION

PROGRESS_S = 2.0  # between two messages about a step under way
_INSTRUCTIONS = 1_000_000  # of SQLite's virtual machine, between two looks at the clock: some 20 ms
_log = structlog.get_logger()


def bring_up_to_date(connection: sqlite3.Connection, path: Path) -> None:
    """Create what is missing, or upgrade it; the version is set with it."""
    if _version(connection) == USER_VERSION:
        return
    began_s = time.monotonic()
    with _reporting(connection, path), _transaction(connection):
        version = _version(connection)  # again, now that no other process can write
        if version != USER_VERSION:
            for statement in UPGRADE if version == OLD_VERSION else (CREATE_TABLE, *CREATE_INDICES.values()):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {USER_VERSION}")
    if version == OLD_VERSION:
        seconds = round(time.monotonic() - began_s, 1)
        _log.info("database_upgraded", path=str(path), found=version, now=USER_VERSION, seconds=seconds)


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


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
def _reporting(connection: sqlite3.Connection, path: Path) -> Iterator[None]:
    began_s = told_s = time.monotonic()

    def report() -> int:
        nonlocal told_s
        now_s = time.monotonic()
        if now_s - told_s >= PROGRESS_S:
            told_s = now_s
            _log.info("database_upgrading", path=str(path), seconds=round(now_s - began_s, 1))
        return 0  # go on

    connection.set_progress_handler(report, _INSTRUCTIONS)
    try:
        yield
    finally:
        connection.set_progress_handler(None, 0)
