import sqlite3
from contextlib import closing
from pathlib import Path

import anyio
import pytest

from borgcore.events.sqlite_table import USER_VERSION
from borglogshipper.stores.retention import Retention
from borglogshipper.stores.sqlite import SqliteStore, open_sqlite
from borglogshipper.stores.store import StoreBusyError, StoreHeldError
from tests.limits import HANG_S

from .files import INDEX, events, reader


async def test_while_another_process_writes_the_store_is_busy_and_stores_nothing(
    store: SqliteStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("borglogshipper.stores.sqlite.LOCK_WAIT_S", 0.05)
    await store.prepare()
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreBusyError) as busy:
            await store.write(events("a"))
        other.execute("ROLLBACK")
    assert str(busy.value) == f"SQLite file {path} is being written by another process: database is locked"
    assert await store.write(events("a")) == {}


async def test_a_full_disk_holds_the_whole_request_and_what_was_stored_stays(store: SqliteStore, path: Path) -> None:
    await store.write(events("a"))
    assert store._connection is not None
    pages = store._connection.execute("PRAGMA page_count").fetchone()[0]
    store._connection.execute(f"PRAGMA max_page_count = {pages + 1}")
    many = events(*(f"{number:04}" for number in range(500)))
    with pytest.raises(StoreHeldError) as held:
        await store.write(many)
    assert str(held.value) == f"SQLite file {path} cannot be used: database or disk is full (SQLITE_FULL)"
    assert await store.read([INDEX] * 2, ["0000", "a"]) == [None, events("a").bodies[0]]
    store._connection.execute("PRAGMA max_page_count = 1000000")
    assert await store.write(many) == {}


@pytest.mark.parametrize("version", [USER_VERSION + 1, 99, -1])
async def test_a_file_of_another_version_is_held_and_left_alone(store: SqliteStore, path: Path, version: int) -> None:
    path.parent.mkdir(parents=True)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {version}")
    for call in (store.check, store.prepare, lambda: store.write(events("a"))):
        with pytest.raises(StoreHeldError) as held:
            await call()
        assert str(held.value) == (
            f"SQLite file {path} has version {version}, expected {USER_VERSION} or less; it was written by another "
            "version or another program"
        )
    with reader(path) as connection:
        assert connection.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)


async def test_another_programs_database_is_held_and_left_alone(store: SqliteStore, path: Path) -> None:
    path.parent.mkdir(parents=True)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE bookmarks (url TEXT)")
    for call in (store.check, store.prepare):
        with pytest.raises(StoreHeldError) as held:
            await call()
        assert str(held.value) == f"SQLite file {path} is another program's database, expected one of events or no file"


async def test_a_file_that_is_not_a_database_is_held_and_left_alone(store: SqliteStore, path: Path) -> None:
    path.parent.mkdir(parents=True)
    path.write_bytes(b"not a database" * 1000)  # noqa: ASYNC240  # small
    for call in (store.check, store.prepare, lambda: store.read([INDEX], ["a"])):
        with pytest.raises(StoreHeldError) as held:
            await call()
        assert str(held.value) == f"SQLite file {path} cannot be used: file is not a database (SQLITE_NOTADB)"
    assert path.read_bytes() == b"not a database" * 1000  # noqa: ASYNC240  # small


async def test_a_table_with_other_columns_is_held(store: SqliteStore, path: Path) -> None:
    path.parent.mkdir(parents=True)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE events (something TEXT)")
        connection.execute(f"PRAGMA user_version = {USER_VERSION}")
    with pytest.raises(StoreHeldError, match="cannot be used: table events has no column named event_id"):
        await store.write(events("a"))


async def test_a_path_that_cannot_be_a_file_is_held(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    with anyio.fail_after(HANG_S):
        async with open_sqlite(tmp_path / "file/events.sqlite", Retention()) as store:
            with pytest.raises(StoreHeldError, match=r"cannot be created: .*/file is not a folder we may write to"):
                await store.check()
            with pytest.raises(StoreHeldError, match=r"events.sqlite cannot be used: File exists: .*/file$"):
                await store.prepare()
        async with open_sqlite(tmp_path / "folder", Retention()) as store:
            for call in (store.check, store.prepare):
                with pytest.raises(StoreHeldError, match=r"folder cannot be used: unable to open database file"):
                    await call()


async def test_a_file_that_was_removed_while_open_is_created_again(store: SqliteStore, path: Path) -> None:
    await store.write(events("a"))
    for part in path.parent.iterdir():
        part.unlink()
    path.parent.rmdir()
    assert await store.write(events("a", "b")) == {}
    with reader(path) as connection:
        assert connection.execute("SELECT event_id FROM events").fetchall() == [("a",), ("b",)]
