"""The store in one SQLite file, which others may read while it is written (write-ahead log).

``synchronous`` is FULL: a finished write is on disk and survives a power cut. With NORMAL, a power cut would lose the
newest transactions although the event log has them committed. Types of fields are not checked: a document that
Elasticsearch would refuse for its types is kept here.
"""

import os
import sqlite3
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TypeVar

import anyio.to_thread
from anyio import CancelScope, CapacityLimiter

from borgcore.events.sqlite_table import READABLE, USER_VERSION
from borglogshipper.stores.retention import Retention
from borglogshipper.stores.sqlite_schema import bring_up_to_date
from borglogshipper.stores.store import Documents, Outcome, StoreBusyError, StoreHeldError, Verdict

LOCK_WAIT_S = 2.0  # for another writer; then the pipeline tries again
_BUSY = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
_INSERT = """
INSERT INTO events (event_id, topic, month, document) VALUES (?, ?, ?, ?)
ON CONFLICT (event_id, topic, month) DO NOTHING
"""
_SELECT = "SELECT document FROM events WHERE event_id = ? AND topic = ? AND month = ?"
ResultT = TypeVar("ResultT")


class SqliteStore:
    """Documents in a SQLite file; one worker thread at a time uses the connection."""

    keeps_dead_letters = True

    def __init__(self, path: Path, retention: Retention) -> None:
        self._path = path
        self._retention = retention
        self._where = f"SQLite file {path}"
        self._turn = CapacityLimiter(1)
        self._connection: sqlite3.Connection | None = None
        self._opened_as: tuple[int, int] | None = None

    async def check(self) -> str:
        """Verify that the file can be written, see :meth:`.Store.check`; a missing one is not created."""
        return await self._run(self._check)

    async def prepare(self) -> None:
        """Create the file and its table if missing, upgrade an older one, see :meth:`.Store.prepare`."""
        await self._run(self._prepare)

    async def write(self, documents: Documents) -> Mapping[int, Verdict]:
        """Insert documents in one transaction, see :meth:`.Store.write`."""
        return await self._run(lambda: self._write(documents))

    async def read(self, indices: Sequence[str], ids: Sequence[str]) -> list[bytes | None]:
        """Fetch documents by their ids, see :meth:`.Store.read`."""
        return await self._run(lambda: self._read(indices, ids))

    async def close(self) -> None:
        """Close the file, even when cancelled."""
        with CancelScope(shield=True):
            await anyio.to_thread.run_sync(self._close, limiter=self._turn)

    async def _run(self, work: Callable[[], ResultT]) -> ResultT:
        try:
            return await anyio.to_thread.run_sync(work, limiter=self._turn)
        except sqlite3.Error as error:
            if (getattr(error, "sqlite_errorcode", 0) & 0xFF) in _BUSY:
                raise StoreBusyError(f"{self._where} is being written by another process: {error}") from None
            name = getattr(error, "sqlite_errorname", type(error).__name__)
            raise StoreHeldError(f"{self._where} cannot be used: {error} ({name})") from None
        except OSError as error:
            raise StoreHeldError(f"{self._where} cannot be used: {error.strerror}: {error.filename}") from None

    def _check(self) -> str:
        version = sqlite3.sqlite_version
        if not self._path.exists():
            parent = next(parent for parent in self._path.absolute().parents if parent.exists())
            if not (parent.is_dir() and os.access(parent, os.W_OK | os.X_OK)):
                raise StoreHeldError(f"{self._where} cannot be created: {parent} is not a folder we may write to")
            return f"SQLite {version} at {self._path}, to be created"
        connection = self._connect("rw")
        try:
            self._check_version(connection)
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
        finally:
            connection.close()
        return f"SQLite {version} at {self._path}"

    def _prepare(self) -> sqlite3.Connection:
        if self._connection is not None and self._opened_as == self._identity():
            return self._connection
        self._close()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        connection = self._connect("rwc")
        try:
            self._check_version(connection)
            self._enable_wal(connection)
            bring_up_to_date(connection, self._path)
        except BaseException:
            connection.close()
            raise
        self._connection, self._opened_as = connection, self._identity()
        return connection

    def _connect(self, mode: str) -> sqlite3.Connection:
        return sqlite3.connect(
            f"{self._path.absolute().as_uri()}?mode={mode}",
            uri=True,
            timeout=LOCK_WAIT_S,
            isolation_level=None,
            check_same_thread=False,  # threads take turns
        )

    def _check_version(self, connection: sqlite3.Connection) -> None:
        connection.execute("BEGIN")  # both at once: another store may be creating the table
        try:
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            used = connection.execute("SELECT name FROM sqlite_master LIMIT 1").fetchone() is not None
        finally:
            connection.execute("ROLLBACK")
        if version not in {0, *READABLE}:
            raise StoreHeldError(
                f"{self._where} has version {version}, expected {USER_VERSION} or less; it was written by another "
                "version or another program"
            )
        if version == 0 and used:
            raise StoreHeldError(f"{self._where} is another program's database, expected one of events or no file")

    def _enable_wal(self, connection: sqlite3.Connection) -> None:
        mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        if mode != "wal":
            raise StoreHeldError(
                f"{self._where} has journal mode {mode}, expected wal, which its file system does not support"
            )
        connection.execute("PRAGMA synchronous = FULL")

    def _identity(self) -> tuple[int, int] | None:
        """Identify the file at the path; writes to a file that was removed while open would be lost."""
        try:
            found = self._path.stat()
        except FileNotFoundError:
            return None
        return found.st_dev, found.st_ino

    def _write(self, documents: Documents) -> Mapping[int, Verdict]:
        connection = self._prepare()
        verdicts: dict[int, Verdict] = {}
        insert = connection.cursor().execute
        connection.execute("BEGIN IMMEDIATE")
        try:
            columns = zip(documents.indices, documents.ids, documents.bodies, strict=True)
            for row, (index, event_id, body) in enumerate(columns):
                try:
                    document = body.decode()
                except UnicodeDecodeError as error:
                    verdicts[row] = Verdict(Outcome.REFUSED, f"{index}: the document is not UTF-8: {error}")
                    continue
                if not insert(_INSERT, (*_key(index, event_id), document)).rowcount:
                    verdicts[row] = Verdict(Outcome.PRESENT)
            deleted = self._retention.apply(connection, len(documents))
            connection.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):  # a full disk has already rolled it back
                connection.execute("ROLLBACK")
            raise
        self._retention.report(deleted)
        return verdicts

    def _read(self, indices: Sequence[str], ids: Sequence[str]) -> list[bytes | None]:
        connection = self._prepare()
        rows = [connection.execute(_SELECT, _key(*key)).fetchone() for key in zip(indices, ids, strict=True)]
        return [None if row is None else row[0].encode() for row in rows]

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(sqlite3.Error):  # finished writes are committed
                connection.close()


def _key(index: str, event_id: str) -> tuple[str, str, str]:
    topic, _, month = index.rpartition("-")
    return event_id, topic, month


@asynccontextmanager
async def open_sqlite(path: Path, retention: Retention) -> AsyncIterator[SqliteStore]:
    """Open the store for the block; the first use creates its file."""
    store = SqliteStore(path, retention)
    try:
        yield store
    finally:
        await store.close()
