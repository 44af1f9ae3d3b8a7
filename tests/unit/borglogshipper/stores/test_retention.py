import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
import pytest
from structlog.testing import capture_logs

from borglogshipper.stores import retention as retention_module
from borglogshipper.stores.retention import Retention
from borglogshipper.stores.sqlite import open_sqlite
from borglogshipper.stores.store import Documents, StoreHeldError

from .files import INDEX, events, reader

FEW = 10


@pytest.fixture(autouse=True)
def _few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention_module, "MIN_DELETED", FEW)


def aged(prefix: str, number: int, age: timedelta, padding: int = 0) -> Documents:
    at = (datetime.now(UTC) - age).isoformat()
    body = orjson.dumps({"@timestamp": at, "event": "made", "text": "x" * padding})
    return Documents([INDEX] * number, [f"{prefix}-{n}" for n in range(number)], [body] * number)


def order(id_: str) -> tuple[int, ...]:
    return tuple(map(int, id_.split("-")))


def ids(path: Path) -> list[str]:
    with reader(path) as connection:
        return [row[0] for row in connection.execute("SELECT event_id FROM events ORDER BY position")]


async def test_events_older_than_the_days_go_with_the_writes_that_follow(path: Path) -> None:
    async with open_sqlite(path, Retention()) as keeping:
        await keeping.write(aged("old", 2 * FEW + 1, timedelta(days=2.1)))
        await keeping.write(aged("young", 3, timedelta(days=1.9)))
    async with open_sqlite(path, Retention(days=2)) as store:
        left = []
        for name in "abcd":
            await store.write(aged(name, 1, timedelta()))
            left.append(sum(id_.startswith("old") for id_ in ids(path)))
    assert left == [FEW + 1, 1, 0, 0], "a part with each write"
    assert ids(path) == ["young-0", "young-1", "young-2", "a-0", "b-0", "c-0", "d-0"]


async def test_an_event_without_a_time_never_expires_by_days(path: Path) -> None:
    async with open_sqlite(path, Retention(days=2)) as store:
        documents = events("timeless")
        documents.bodies[0] = b'{"@timestamp":"soon"}'
        await store.write(documents)
        await store.write(aged("new", 1, timedelta()))
    assert ids(path) == ["timeless", "new-0"]


async def test_a_file_stops_growing_at_its_limit_and_keeps_the_newest(path: Path) -> None:
    limit = 1_000_000
    async with open_sqlite(path, Retention(max_bytes=limit)) as store:
        for n in range(100):
            await store.write(aged(f"{n:03}", 20, timedelta(), padding=1_000))
    kept = ids(path)
    assert kept[-1] == "099-19"
    assert kept == sorted(kept, key=order)
    assert order(kept[0]) == divmod(2_000 - len(kept), 20), "the oldest are gone"
    assert 300 < len(kept) < 1_000
    with reader(path) as connection:
        pages = (
            connection.execute("PRAGMA page_count").fetchone()[0] * connection.execute("PRAGMA page_size").fetchone()[0]
        )
    assert pages < 1.2 * limit


async def test_without_limits_all_are_kept_and_what_is_deleted_is_reported(path: Path) -> None:
    async with open_sqlite(path, Retention()) as keeping:
        await keeping.write(aged("old", FEW, timedelta(days=4_000)))
        await keeping.write(aged("new", 1, timedelta()))
    assert len(ids(path)) == FEW + 1
    with capture_logs() as logs:
        async with open_sqlite(path, Retention(days=2)) as store:
            await store.write(aged("newer", 1, timedelta()))
    expired = {"event": "expired_events_deleted", "count": FEW, "retention_days": 2, "retention_bytes": None}
    assert [line for line in logs if line["event"].startswith("expired")] == [expired | {"log_level": "info"}]


async def test_what_a_failed_write_would_have_deleted_is_not_reported(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_sqlite(path, Retention()) as keeping:
        await keeping.write(aged("old", FEW, timedelta(days=3)))
    retention = Retention(days=2)

    def delete_and_fail(connection: sqlite3.Connection, written: int) -> int:
        assert Retention.apply(retention, connection, written) == FEW
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(retention, "apply", delete_and_fail)
    with capture_logs() as logs:
        async with open_sqlite(path, retention) as store:
            with pytest.raises(StoreHeldError, match="disk I/O error"):
                await store.write(aged("new", 1, timedelta()))
    assert not [line for line in logs if line["event"].startswith("expired")]
    assert len(ids(path)) == FEW
