import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import orjson
import pytest
from structlog.testing import capture_logs

from borgcore.events.sqlite_table import CREATE_INDICES, USER_VERSION
from borglogshipper.stores import sqlite_schema
from borglogshipper.stores.retention import Retention
from borglogshipper.stores.sqlite import SqliteStore, open_sqlite

from .files import events, reader

VERSION_1 = """
CREATE TABLE events (
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
KILLED_BEFORE_THE_COMMIT = """
import sqlite3, sys, time
from contextlib import contextmanager
from pathlib import Path
from borglogshipper.stores import sqlite_schema

original = sqlite_schema._transaction

@contextmanager
def held(connection):
    with original(connection):
        yield
        print("held", flush=True)
        time.sleep(3600)

sqlite_schema._transaction = held
path = Path(sys.argv[1])
sqlite_schema.bring_up_to_date(sqlite3.connect(path, isolation_level=None), path)
"""


@pytest.fixture
def old(path: Path) -> Path:
    """Make a database of version 1 with 300 events."""
    path.parent.mkdir(parents=True)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(VERSION_1)
        for n in range(300):
            at = (
                f"2026-11-22T10:{n // 60:02}:{n % 60:02}+02:00" if n % 2 else f"2026-11-22T08:{n // 60:02}:{n % 60:02}Z"
            )
            document = orjson.dumps({"@timestamp": at, "event": f"kind_{n % 3}", "agent": n % 4}).decode()
            row = (f"old-{n}", "training_log", document)
            connection.execute("INSERT INTO events (event_id, topic, document) VALUES (?, ?, ?)", row)
        connection.execute("PRAGMA user_version = 1")
        connection.commit()
    return path


def describe(path: Path) -> tuple[int, set[str], int]:
    """Return the version, the names of the indices and the number of events."""
    with reader(path) as connection:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        names = {row[0] for row in connection.execute("SELECT name FROM sqlite_schema WHERE name LIKE 'events_by_%'")}
        return version, names, connection.execute("SELECT count(*) FROM events").fetchone()[0]


ALL_INDICES = {f"events_by_{column}" for column in CREATE_INDICES}


async def test_a_database_of_version_1_is_upgraded_in_place(store: SqliteStore, old: Path) -> None:
    assert (await store.check()).endswith(f" at {old}"), "a check changes nothing"
    assert describe(old) == (1, set(), 300)
    with capture_logs() as logs:
        assert await store.write(events("new")) == {}
    assert [line["event"] for line in logs] == ["database_upgraded"]
    assert describe(old) == (USER_VERSION, ALL_INDICES, 301)
    with reader(old) as connection:
        times = connection.execute("SELECT utc FROM events ORDER BY position LIMIT 2").fetchall()
    assert times == [("2026-11-22T08:00:00.000Z",), ("2026-11-22T08:00:01.000Z",)], "in UTC, however it is written"


async def test_an_upgraded_database_is_the_same_as_a_new_one(store: SqliteStore, old: Path, tmp_path: Path) -> None:
    new = tmp_path / "new.sqlite"
    async with open_sqlite(new, Retention()) as fresh:
        await fresh.prepare()
    await store.prepare()
    assert describe(new) == (USER_VERSION, ALL_INDICES, 0)
    tables = []
    for path in (old, new):
        with reader(path) as connection:
            tables.append(connection.execute("PRAGMA table_xinfo(events)").fetchall())
    assert tables[0] == tables[1]


@pytest.fixture
def killed(old: Path) -> Path:
    """Kill an upgrade that has done all but commit."""
    command = [sys.executable, "-c", KILLED_BEFORE_THE_COMMIT, str(old)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as upgrading:
        assert upgrading.stdout is not None
        assert upgrading.stdout.readline() == b"held\n"
        upgrading.kill()
    return old


async def test_an_upgrade_that_was_killed_begins_again_with_the_next_start(store: SqliteStore, killed: Path) -> None:
    assert describe(killed) == (1, set(), 300)
    assert await store.write(events("new")) == {}
    assert describe(killed) == (USER_VERSION, ALL_INDICES, 301)


async def test_a_reader_goes_on_during_an_upgrade(store: SqliteStore, old: Path) -> None:
    with reader(old) as connection:
        connection.execute("BEGIN")
        assert connection.execute("SELECT count(*) FROM events").fetchone() == (300,)
        assert await store.write(events("new")) == {}
        assert connection.execute("SELECT count(*) FROM events").fetchone() == (300,)
    assert describe(old) == (USER_VERSION, ALL_INDICES, 301)


@pytest.mark.usefixtures("old")
async def test_a_long_upgrade_says_that_it_goes_on(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_schema, "PROGRESS_S", 0.0)
    monkeypatch.setattr(sqlite_schema, "_INSTRUCTIONS", 100)
    with capture_logs() as logs:
        await store.prepare()
    assert [line["event"] for line in logs][-1] == "database_upgraded"
    assert {line["event"] for line in logs[:-1]} == {"database_upgrading"}


@pytest.mark.parametrize("at", ["now", "2026", 20261128, None, "2026-11-28 now", "12:00", "2460000.5", "", {}])
async def test_a_time_that_is_none_can_be_stored_and_has_no_utc(store: SqliteStore, path: Path, at: object) -> None:
    documents = events("odd")
    documents.bodies[0] = orjson.dumps({"@timestamp": at})
    assert await store.write(documents) == {}
    with reader(path) as connection:
        assert connection.execute("SELECT utc FROM events").fetchall() == [(None,)]
