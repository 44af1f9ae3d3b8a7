"""A run's events.sqlite, read while the logshipper writes it: oldest first, in batches, never written to."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from borgcore.errors import BorgError, CorruptDataError, MismatchError
from borgcore.events.sqlite_table import OLD_VERSION, READABLE, USER_VERSION, UTC
from borgcore.events.timestamp import as_timestamp
from borgcore.events.topics import DEAD_LETTER
from borgcore.eventstore.reader import EventFilter, EventReader

BATCH = 1_000  # documents held at once
_UNWRITABLE = frozenset({sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY})
_BUSY_S = 5.0  # a writer holds the database for less


class SqliteReader(EventReader):
    """Reads the wanted events of one database."""

    def __init__(self, path: Path, connection: sqlite3.Connection, wanted: EventFilter, version: int) -> None:
        self._path = path
        self._connection = connection
        utc = f"({UTC})" if version == OLD_VERSION else "utc"
        self._condition, self._values = _condition(wanted, utc)
        self._position = self._before(utc, wanted)

    def skip_to_last(self, last: int) -> None:
        """Begin with the ``last`` newest events."""
        newest = self._newest()
        text = f"SELECT position FROM events WHERE {self._condition} ORDER BY position DESC LIMIT ?"  # noqa: S608  # ours
        found = self._fetch(f"SELECT min(position) FROM ({text})", 0, newest, *self._values, last)[0][0]  # noqa: S608  # ours
        self._position = newest if found is None else found - 1

    def read(self) -> Iterator[str]:
        """Read the documents that are there now, as they were stored."""
        newest = self._newest()  # events filtered out are not looked at again
        text = f"SELECT position, document FROM events WHERE {self._condition} ORDER BY position LIMIT ?"  # noqa: S608  # ours
        while rows := self._fetch(text, self._position, newest, *self._values, BATCH):
            for position, document in rows:
                self._position = position
                yield document
        self._position = newest

    def _before(self, utc: str, wanted: EventFilter) -> int:
        """Return the position before the first event that is new enough.

        ``+`` keeps SQLite from looking for it in order of arrival: the index by time has it at once.
        """
        if wanted.since is None:
            return 0
        first = self._fetch(f"SELECT min(+position) FROM events WHERE {utc} >= ?", as_timestamp(wanted.since))[0][0]  # noqa: S608  # ours
        return self._newest() if first is None else int(first) - 1

    def _newest(self) -> int:
        return int(self._fetch("SELECT coalesce(max(position), 0) FROM events")[0][0])

    def _fetch(self, text: str, *values: object) -> list[Any]:
        """Fetch all rows at once, so that a slow printer never holds a lock that a writer waits for."""
        with _describing(self._path):
            return self._connection.execute(text, values).fetchall()


@contextmanager
def open_sqlite_reader(path: Path, wanted: EventFilter) -> Iterator[SqliteReader | None]:
    """Open for reading; yield None if there is no database, or no table in it, yet.

    Raises:
        CorruptDataError: the file is not a database of events.
        MismatchError: it was written by another version.
        BorgError: it cannot be read.
    """
    if not path.exists():
        yield None
        return
    with _describing(path):
        connection = _connect(path)
    with closing(connection):
        with _describing(path):
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            tables = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
        if not version and not tables:  # just created
            yield None
            return
        if not version:
            raise CorruptDataError(f"{path} is no database of events: another program made it")
        if version not in READABLE:
            raise MismatchError(
                f"{path} is of version {version}, this borg reads up to version {USER_VERSION}; take the borg that "
                "wrote it"
            )
        yield SqliteReader(path, connection, wanted, version)


def _connect(path: Path) -> sqlite3.Connection:
    """Open read-only; in WAL mode SQLite creates its files beside the database if it may.

    If it may not, a database that no process has open can be read as immutable, unless a write-ahead log lies beside
    it, whose events would be missing.
    """
    uri = f"file:{quote(os.fsencode(path.absolute()))}?mode=ro"
    connection = sqlite3.connect(uri, uri=True, timeout=_BUSY_S)
    try:
        connection.execute("SELECT 1 FROM sqlite_schema").fetchone()
    except sqlite3.OperationalError as error:
        connection.close()
        log = path.with_name(path.name + "-wal")
        if error.sqlite_errorcode & 0xFF not in _UNWRITABLE or (log.exists() and log.stat().st_size):
            raise
        return sqlite3.connect(f"{uri}&immutable=1", uri=True)
    except BaseException:
        connection.close()
        raise
    return connection


@contextmanager
def _describing(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:  # a subclass of DatabaseError
        raise BorgError(f"cannot read {path}: {error}") from None
    except sqlite3.DatabaseError as error:
        raise CorruptDataError(f"{path} is no database of events: {error}") from None


def _condition(wanted: EventFilter, utc: str) -> tuple[str, list[Any]]:
    """Return the filter as an SQL condition on a range of positions, with the values that follow the range.

    A ``+`` keeps SQLite from using a column's index. Of event and agent it shall use that of the event, which is
    rarer; that of the time would have to be sorted.
    """
    agent = "agent = ?" if wanted.event is None else "+agent = ?"
    since = None if wanted.since is None else as_timestamp(wanted.since)
    topic, of_topic = ("topic <> ?", DEAD_LETTER) if wanted.topic is None else ("topic = ?", wanted.topic)
    terms = {topic: of_topic, agent: wanted.agent, "event = ?": wanted.event, f"+{utc} >= ?": since}
    given = {term: value for term, value in terms.items() if value is not None}
    return " AND ".join(["position > ? AND position <= ?", *given]), list(given.values())
