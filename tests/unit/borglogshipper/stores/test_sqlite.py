import sqlite3
from contextlib import closing, suppress
from pathlib import Path

import anyio
import pytest

from borgcore.events.sqlite_table import USER_VERSION
from borglogshipper.stores.retention import Retention
from borglogshipper.stores.sqlite import SqliteStore, open_sqlite
from borglogshipper.stores.store import Documents, Outcome, StoreBusyError, Verdict
from tests.limits import HANG_S

from .files import INDEX, events, reader

VERSION_1 = """
CREATE TABLE events (
    position INTEGER PRIMARY KEY,
    event_id TEXT NOT NULL UNIQUE,
    topic TEXT NOT NULL,
    document TEXT NOT NULL,
    at TEXT AS (CASE WHEN json_valid(document) THEN json_extract(document, '$."@timestamp"') END) VIRTUAL
)
"""


async def test_no_file_is_created_before_the_first_use_nor_by_a_check(store: SqliteStore, path: Path) -> None:
    assert await store.check() == f"SQLite {sqlite3.sqlite_version} at {path}, to be created"
    assert not path.parent.exists()
    await store.prepare()
    assert await store.check() == f"SQLite {sqlite3.sqlite_version} at {path}"


async def test_written_documents_can_be_read_by_others_while_the_store_is_open(store: SqliteStore, path: Path) -> None:
    assert await store.write(events("a", "b")) == {}
    with reader(path) as connection:
        first = connection.execute("SELECT position, topic, at, event, run, agent FROM events").fetchall()
        assert await store.write(events("c", index="memory_monitoring-2026.11")) == {}
        newer = connection.execute("SELECT position, event_id, topic FROM events WHERE position > 2").fetchall()
    assert first == [
        (1, "training_log", "2026-11-22T10:00:00.000Z", "made", "pong", 0),
        (2, "training_log", "2026-11-22T10:00:00.000Z", "made", "pong", 1),
    ]
    assert newer == [(3, "c", "memory_monitoring")]


async def test_a_long_read_transaction_does_not_block_writes(store: SqliteStore, path: Path) -> None:
    await store.write(events("a"))
    with reader(path) as connection:
        connection.execute("BEGIN")
        assert connection.execute("SELECT count(*) FROM events").fetchone() == (1,)
        assert await store.write(events("b")) == {}
        assert connection.execute("SELECT count(*) FROM events").fetchone() == (1,)
        connection.execute("COMMIT")
        assert connection.execute("SELECT count(*) FROM events").fetchone() == (2,)


async def test_a_finished_write_is_on_disk(store: SqliteStore) -> None:
    await store.prepare()
    assert store._connection is not None
    assert store._connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert store._connection.execute("PRAGMA synchronous").fetchone() == (2,)
    assert store._connection.execute("PRAGMA user_version").fetchone() == (USER_VERSION,)


async def test_positions_follow_the_order_of_arrival_and_known_documents_leave_no_gap(store: SqliteStore) -> None:
    await store.write(events("a", "b"))
    await store.write(events("b", "c", "a", "d"))
    assert store._connection is not None
    rows = store._connection.execute("SELECT event_id FROM events ORDER BY position").fetchall()
    assert rows == [("a",), ("b",), ("c",), ("d",)]


async def test_a_document_that_is_not_text_is_refused_and_the_others_are_stored(store: SqliteStore) -> None:
    documents = events("a", "b", "c")
    documents.bodies[1] = b'{"text":"\xff"}'
    verdicts = await store.write(documents)
    assert list(verdicts) == [1]
    assert verdicts[1].outcome is Outcome.REFUSED
    assert verdicts[1].reason.startswith(f"{INDEX}: the document is not UTF-8: ")
    assert await store.read([INDEX] * 3, ["a", "b", "c"]) == [documents.bodies[0], None, documents.bodies[2]]


@pytest.mark.parametrize("body", [b'{"a":' * 1500 + b"1" + b"}" * 1500, b"no JSON"])
async def test_a_document_that_sqlite_cannot_parse_does_not_break_reading(
    store: SqliteStore, path: Path, body: bytes
) -> None:
    documents = events("a", "deep", "c")
    documents.bodies[1] = body
    assert await store.write(documents) == {}
    with reader(path) as connection:
        assert connection.execute("SELECT event_id, agent FROM events").fetchall() == [
            ("a", 0),
            ("deep", None),
            ("c", 2),
        ]
        assert connection.execute("SELECT event_id FROM events WHERE agent = 2").fetchall() == [("c",)]
    assert await store.read([INDEX], ["deep"]) == [body]


async def test_two_stores_on_one_file_take_turns(store: SqliteStore, path: Path) -> None:
    async def write(writer: SqliteStore, name: str) -> None:
        for number in range(20):
            documents = events(f"{name}{number}", f"both{number}")
            while True:
                with suppress(StoreBusyError):  # the lock is not fair: on a slow disk one may wait too long
                    verdicts = await writer.write(documents)
                    break
            assert all(verdict == Verdict(Outcome.PRESENT) for verdict in verdicts.values())

    async with open_sqlite(path, Retention()) as other, anyio.create_task_group() as group:
        group.start_soon(write, store, "a")
        group.start_soon(write, other, "b")
    with reader(path) as connection:
        assert connection.execute("SELECT count(*), count(DISTINCT event_id) FROM events").fetchone() == (60, 60)


async def test_the_file_is_complete_after_the_block_even_if_it_is_cancelled(path: Path) -> None:
    with anyio.fail_after(HANG_S), anyio.CancelScope() as scope:
        async with open_sqlite(path, Retention()) as store:
            await store.write(events("a"))
            scope.cancel()
            await anyio.lowlevel.checkpoint()
    assert scope.cancelled_caught
    assert store._connection is None
    assert [part.name for part in path.parent.iterdir()] == [path.name]
    with reader(path) as connection:
        assert connection.execute("SELECT event_id FROM events").fetchall() == [("a",)]


async def test_an_empty_write_stores_nothing(store: SqliteStore) -> None:
    assert await store.write(Documents([], [], [])) == {}
    assert await store.read([], []) == []


async def test_a_known_document_is_present_even_if_its_content_differs(store: SqliteStore) -> None:
    await store.write(events("a"))
    other = Documents([INDEX], ["a"], [b'{"other":1}'])
    assert await store.write(other) == {0: Verdict(Outcome.PRESENT)}
    assert await store.read([INDEX], ["a"]) == events("a").bodies


async def test_an_id_is_taken_within_its_topic_and_month_alone(store: SqliteStore) -> None:
    indices = [INDEX, "memory_monitoring-2026.11", "training_log-2026.12"]
    documents = Documents(indices, ["a"] * 3, [b'{"n":1}', b'{"n":2}', b'{"n":3}'])
    assert await store.write(documents) == {}
    assert list(await store.write(documents)) == [0, 1, 2]
    assert await store.read(indices, documents.ids) == documents.bodies
    assert await store.read(["memory_monitoring-2026.12"], ["a"]) == [None]


async def test_a_file_of_version_1_keeps_its_documents_and_positions(store: SqliteStore, path: Path) -> None:
    path.parent.mkdir(parents=True)
    bodies = [b'{"@timestamp":"2026-12-01T00:30:00+01:00"}', b'{"@timestamp":"2026-12-02T00:00:00Z"}', b'{"a":1}']
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(VERSION_1)
        rows = [(7 + row, f"id-{row}", "training_log", body.decode()) for row, body in enumerate(bodies)]
        connection.executemany("INSERT INTO events (position, event_id, topic, document) VALUES (?, ?, ?, ?)", rows)
        connection.execute("PRAGMA user_version = 1")
        connection.commit()
    assert await store.check() == f"SQLite {sqlite3.sqlite_version} at {path}"
    indices = [INDEX, "training_log-2026.12"]
    assert await store.read(indices, ["id-0", "id-1"]) == bodies[:2]
    assert list(await store.write(Documents(indices, ["id-0", "id-1"], bodies[:2]))) == [0, 1]
    assert await store.write(Documents([INDEX], ["id-3"], [bodies[0]])) == {}
    with reader(path) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (USER_VERSION,)
        assert connection.execute("SELECT position, event_id, month FROM events ORDER BY position").fetchall() == [
            (7, "id-0", "2026.11"),
            (8, "id-1", "2026.12"),
            (9, "id-2", ""),
            (10, "id-3", "2026.11"),
        ]
