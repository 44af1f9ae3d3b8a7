import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from borgcore.errors import BorgError, CorruptDataError, MismatchError
from borgcore.events.sqlite_table import CREATE_INDICES, USER_VERSION
from borgcore.eventstore import sqlite as sqlite_module
from borgcore.eventstore.reader import EventFilter
from borgcore.eventstore.sqlite import open_sqlite_reader

from .database import store as store_documents
from .database import writing

NOBODY = 65534


def document(number: int) -> str:
    topic_fields = {"agent": number % 3} if number % 2 else {}
    at = f"2026-11-22T12:00:{number % 60:02}.000Z"
    return json.dumps({"@timestamp": at, "event": f"kind_{number % 5}", "number": number, **topic_fields})


def store(connection: sqlite3.Connection, numbers: range) -> None:
    for n in numbers:
        store_documents(connection, "training_log" if n % 2 else "memory_monitoring", [document(n)])


def read(path: Path, wanted: EventFilter | None = None) -> list[str]:
    with open_sqlite_reader(path, wanted or EventFilter()) as reader:
        assert reader is not None
        return list(reader.read())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a run? #1 %20" / "events.sqlite"


@pytest.fixture
def stored(path: Path) -> Path:
    with writing(path) as connection:
        store(connection, range(20))
    return path


def test_documents_come_oldest_first_exactly_as_stored_over_many_batches(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_module, "BATCH", 7)
    with writing(path) as connection:
        store(connection, range(50))
        assert read(path) == [document(n) for n in range(50)], "while it is written"
    assert not path.with_name("events.sqlite-wal").exists()
    assert read(path) == [document(n) for n in range(50)], "and when nobody has it open"


def test_a_reading_goes_on_where_the_one_before_ended(path: Path) -> None:
    with writing(path) as connection, open_sqlite_reader(path, EventFilter(event="kind_1")) as reader:
        assert reader is not None
        assert list(reader.read()) == []
        store(connection, range(7))
        assert list(reader.read()) == [document(1), document(6)]
        assert list(reader.read()) == []
        store(connection, range(7, 12))
        assert list(reader.read()) == [document(11)]


@pytest.mark.parametrize(
    ("wanted", "numbers"),
    [
        (EventFilter(topic="training_log"), range(1, 20, 2)),
        (EventFilter(agent=1), [1, 7, 13, 19]),
        (EventFilter(event="kind_2"), [2, 7, 12, 17]),
        (EventFilter(topic="training_log", event="kind_2"), [7, 17]),
        (EventFilter(since=datetime(2026, 11, 22, 12, 0, 17, tzinfo=UTC)), [17, 18, 19]),
        (EventFilter(event="absent"), []),
    ],
)
def test_only_what_was_chosen_is_read(stored: Path, wanted: EventFilter, numbers: list[int]) -> None:
    assert read(stored, wanted) == [document(n) for n in numbers]


def test_dead_letters_are_read_alone_and_only_where_they_are_asked_for(stored: Path) -> None:
    with writing(stored) as connection:
        store_documents(connection, "dead_letter", ['{"event": "record_refused"}'])
    assert read(stored) == [document(n) for n in range(20)]
    assert read(stored, EventFilter(topic="dead_letter")) == ['{"event": "record_refused"}']


@pytest.mark.parametrize(("last", "numbers"), [(0, []), (2, [12, 17]), (100, [2, 7, 12, 17])])
def test_the_newest_are_counted_among_the_chosen(stored: Path, last: int, numbers: list[int]) -> None:
    with open_sqlite_reader(stored, EventFilter(event="kind_2")) as reader:
        assert reader is not None
        reader.skip_to_last(last)
        assert list(reader.read()) == [document(n) for n in numbers]


def test_what_is_not_there_or_just_made_has_no_events_yet(path: Path) -> None:
    with open_sqlite_reader(path, EventFilter()) as reader:
        assert reader is None
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        with open_sqlite_reader(path, EventFilter()) as reader:
            assert reader is None


def test_reading_changes_nothing(stored: Path) -> None:
    before = stored.read_bytes()
    read(stored)
    assert stored.read_bytes() == before
    with open_sqlite_reader(stored, EventFilter()) as reader:
        assert reader is not None
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            reader._connection.execute("DELETE FROM events")


@contextmanager
def nobody(path: Path) -> Iterator[None]:
    """Be a user who may read all and write nothing; the kernel lets root write anywhere."""
    for folder in path.parents[:3]:
        folder.chmod(0o555)
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if is_root:
            os.seteuid(0)
        for folder in path.parents[:3]:
            folder.chmod(0o755)


@pytest.fixture
def foreign(short_folder: Path) -> Path:
    """A database in a folder that somebody else can reach: pytest's own are private."""
    path = short_folder / "runs" / "one" / "events.sqlite"
    path.parent.mkdir(parents=True)
    return path


def test_a_finished_run_can_be_read_where_nothing_may_be_written(foreign: Path) -> None:
    with writing(foreign) as connection:
        store(connection, range(20))
    with nobody(foreign):
        assert read(foreign) == [document(n) for n in range(20)]


def test_a_run_under_way_can_be_read_by_who_may_not_write_(foreign: Path) -> None:
    with writing(foreign) as connection:
        store(connection, range(20))
        with nobody(foreign):
            assert read(foreign) == [document(n) for n in range(20)]


def test_a_log_that_was_left_behind_is_not_skipped(foreign: Path) -> None:
    with writing(foreign) as connection:
        store(connection, range(20))
        left = foreign.parent / "left.sqlite"
        for suffix in ("", "-wal"):
            left.with_name(left.name + suffix).write_bytes(foreign.with_name(foreign.name + suffix).read_bytes())
    with nobody(foreign):
        try:
            assert read(left) == [document(n) for n in range(20)]
        except BorgError as error:
            assert str(error).startswith(f"cannot read {left}: ")  # noqa: PT017  # either is right, a part is not
    assert read(left) == [document(n) for n in range(20)], "who may write recovers it"


@pytest.mark.parametrize(
    ("content", "error", "text"),
    [
        (b"no database" * 100, CorruptDataError, "is no database of events: file is not a database"),
        ("CREATE TABLE other (a)", CorruptDataError, "is no database of events: another program made it"),
        (
            "PRAGMA user_version = 7",
            MismatchError,
            f"is of version 7, this borg reads up to version {USER_VERSION}; take the",
        ),
    ],
)
def test_what_cannot_be_read_is_one_line(path: Path, content: bytes | str, error: type[BorgError], text: str) -> None:
    path.parent.mkdir()
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        with closing(sqlite3.connect(path)) as connection:
            connection.execute(content)
    with pytest.raises(error) as refused, open_sqlite_reader(path, EventFilter()):
        pass
    assert str(refused.value).startswith(str(path))
    assert text in str(refused.value)
    assert "\n" not in str(refused.value)


def test_damage_that_shows_later_is_one_line(stored: Path) -> None:
    content = bytearray(stored.read_bytes())
    content[4096 * 1 :] = b"\xff" * (len(content) - 4096)
    stored.write_bytes(content)
    with pytest.raises(CorruptDataError, match="is no database of events: database disk image is malformed"):
        read(stored)


SINCE = datetime(2026, 11, 22, 12, 0, 10, tzinfo=UTC)
BY_ORDER = "SEARCH events USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)"
BY_EVENT = "SEARCH events USING INDEX events_by_event (event=? AND rowid>? AND rowid<?)"
BY_AGENT = "SEARCH events USING INDEX events_by_agent (agent=? AND rowid>? AND rowid<?)"
BY_TIME = "SEARCH events USING INDEX events_by_utc (utc>?)"


@pytest.mark.parametrize(
    ("wanted", "plan"),
    [
        (EventFilter(), {BY_ORDER}),
        (EventFilter(topic="training_log"), {BY_ORDER}),
        (EventFilter(event="kind_1"), {BY_EVENT}),
        (EventFilter(event="no such"), {BY_EVENT}),
        (EventFilter(topic="dead_letter", event="record_refused"), {BY_EVENT}),
        (EventFilter(agent=1), {BY_AGENT}),
        (EventFilter(agent=1, event="kind_1"), {BY_EVENT}),
        (EventFilter(since=SINCE), {BY_TIME, BY_ORDER}),
        (EventFilter(since=SINCE, event="kind_1"), {BY_TIME, BY_EVENT}),
        (EventFilter(since=SINCE, agent=1, topic="training_log"), {BY_TIME, BY_AGENT}),
    ],
)
def test_each_filter_uses_the_index_made_for_it(
    stored: Path, monkeypatch: pytest.MonkeyPatch, wanted: EventFilter, plan: set[str]
) -> None:
    statements: list[tuple[str, tuple[object, ...]]] = []
    fetch = sqlite_module.SqliteReader._fetch

    def recorded(reader: sqlite_module.SqliteReader, text: str, *values: object) -> list[object]:
        statements.append((text, values))
        return fetch(reader, text, *values)

    monkeypatch.setattr(sqlite_module.SqliteReader, "_fetch", recorded)
    with open_sqlite_reader(stored, wanted) as reader:
        assert reader is not None
        reader.skip_to_last(3)
        list(reader.read())
    with closing(sqlite3.connect(stored)) as connection:
        steps = {
            row[3].replace("COVERING ", "")
            for text, values in statements
            for row in connection.execute(f"EXPLAIN QUERY PLAN {text}", values)
            if "coalesce(max(position)" not in text
        }
    assert {step for step in steps if "events" in step and "CO-ROUTINE" not in step} == plan
    assert not any("TEMP B-TREE" in step for step in steps), "nothing is sorted"


def test_since_compares_times_and_not_their_spelling(path: Path) -> None:
    spellings = ["2026-11-22T13:00:09.999+01:00", "2026-11-22T13:00:10+01:00", "2026-11-22T12:00:10.000Z"]
    spellings += ["2026-11-22T12:00:09.999Z", "2026-11-22T11:00:10-01:00", "no time"]
    documents = [json.dumps({"@timestamp": at}) for at in spellings]
    with writing(path) as connection:
        store_documents(connection, "training_log", documents)
    assert read(path, EventFilter(since=SINCE)) == [documents[n] for n in (1, 2, 4)]
    assert read(path, EventFilter(since=SINCE.replace(year=2027))) == []


def test_a_database_of_version_1_is_read_without_its_indices(stored: Path) -> None:
    with closing(sqlite3.connect(stored, isolation_level=None)) as connection:
        for column in CREATE_INDICES:
            connection.execute(f"DROP INDEX events_by_{column}")
        connection.execute("ALTER TABLE events DROP COLUMN utc")
        connection.execute("PRAGMA user_version = 1")
    assert read(stored) == [document(n) for n in range(20)]
    assert read(stored, EventFilter(event="kind_1")) == [document(n) for n in (1, 6, 11, 16)]
    assert read(stored, EventFilter(since=SINCE, agent=1)) == [document(n) for n in (13, 19)]
