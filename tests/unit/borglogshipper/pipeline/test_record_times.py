"""The time of a record, which selects its index."""

import json

import orjson
import pytest

from borgcore.eventlog.protocol import Chunk
from borglogshipper.pipeline.record import RecordBatch, RecordReader

from .fakes import LOG, MAX_BYTES, MAX_DEPTH, STAMP, batch_of, event_of

ID = "0193a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b"
NO_TIMES: list[object] = [
    *(
        "yesterday",
        "",
        None,
        [],
        {},
        ["2026-11-22T10:00:00Z"],
        True,
        0,
        -1,
        1_795_341_600,
        1_795_341_600_000,
        1.5,
        1e300,
    ),
    *("1795341600000", "1795341600", "20261128", "20261128T101112Z", "2026", "2026-11", "2026-11-22", "2026-W48-6"),
    *("2026-332", "2026-11-22T10Z", "2026-11-22T10:00Z", "2026-11-22T10:00:00", "2026-11-22 10:00:00Z"),
    *("2026-02-30T00:00:00Z", "2026-02-29T00:00:00Z", "2026-13-01T00:00:00Z", "2026-00-01T00:00:00Z"),
    *("2026-11-22T24:00:00Z", "2026-11-22T24:30:00Z", "2026-11-22T10:60:00Z", "2026-11-22T10:59:60Z"),
    *("2026-11-22T10:00:00,5Z", "2026-11-22T10:00:00.Z", "2026-11-22T10:00:00.1234567890Z", "2026-11-22T1:00:00Z"),
    *("2026-11-22t10:00:00Z", "2026-11-22T10:00:00z", "2026-11-22T10:00:00+0530", "2026-11-22T10:00:00+05"),
    *("2026-11-22T10:00:00+05:30:15", "2026-11-22T10:00:00+15:00", "2026-11-22T10:00:00-18:00"),
    *("2026-11-22T10:00:00+05:60", "2026-11-22T10:00:00\u221201:00", "2026-11-22T10:00:00 Z"),
    *("2026-11-22T10:00:00GMT", "2026-11-22T10:00:00 UTC", "2026-11-22T10:00:00[Europe/Berlin]"),
    *(" 2026-11-22T10:00:00Z", "2026-11-22T10:00:00Z ", "2026-11-22T10:00:00Z\n", "2026-11-22T10:00:00Z\0"),
    *("2026-11-22T10:0\u0660:00Z", "\u0662026-11-22T10:00:00Z", "+2026-11-22T10:00:00Z", "-2026-11-22T10:00:00Z"),
    *("0000-01-01T00:00:00Z", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "10000-01-01T00:00:00Z"),
]
"""What Elasticsearch or SQLite do not read, or read as different instants; and what has no zone."""


def only_refusal(batch: RecordBatch) -> str:
    assert not batch.origins
    assert not batch.documents.bodies
    assert len(batch) == 1
    return batch.refused[0].reason


def index_of(stamp: object) -> str:
    return batch_of(orjson.dumps({"@timestamp": stamp, "event_id": ID})).documents.indices[0]


@pytest.mark.parametrize(
    ("stamp", "month"),
    [
        ("2026-11-30T23:59:59.999Z", "2026.11"),
        ("2026-12-01T00:30:00+01:00", "2026.11"),
        ("2026-11-30T23:30:00-01:00", "2026.12"),
        ("2027-01-01T05:00:00+05:45", "2026.12"),
        ("2026-11-30T23:59:59-00:00", "2026.11"),
        ("2026-12-01T13:59:59+14:00", "2026.11"),
        ("2024-02-29T00:00:00Z", "2024.02"),
        ("2000-01-01T00:00:00Z", "2000.01"),
        ("1999-12-31T23:00:00-01:00", "2000.01"),
        ("2099-12-31T23:59:59.999999999Z", "2099.12"),
    ],
)
def test_the_index_is_of_the_month_in_utc(stamp: object, month: str) -> None:
    assert index_of(stamp) == f"training_log-{month}"


@pytest.mark.parametrize(
    "stamp",
    [
        "1999-12-31T23:59:59Z",
        "2100-01-01T00:00:00Z",
        "1999-12-31T23:59:59.999-00:00",
        "2000-01-01T00:59:59+01:00",
        "1969-12-31T23:59:59Z",
        "0001-01-02T00:00:00Z",
        "9999-12-31T00:00:00Z",
    ],
)
def test_an_impossible_year_is_refused(stamp: object) -> None:
    record = orjson.dumps({"@timestamp": stamp, "event_id": ID})
    assert "outside 2000 to 2099" in only_refusal(batch_of(record))


@pytest.mark.parametrize("stamp", NO_TIMES, ids=repr)
def test_what_stores_do_not_read_alike_is_refused_whether_its_day_is_known_or_not(stamp: object) -> None:
    reader = RecordReader(MAX_BYTES, MAX_DEPTH)
    record = orjson.dumps({"@timestamp": stamp, "event_id": ID})
    first = batch_of(record, reader=reader)
    batch_of(event_of(), reader=reader)
    again = batch_of(record, reader=reader)
    assert only_refusal(first) == only_refusal(again)
    assert only_refusal(first).startswith(f"its @timestamp is {orjson.dumps(stamp).decode()[:60]}")
    assert "expected RFC 3339 with a zone, such as 2026-11-28T10:00:00.000Z" in only_refusal(first)


@pytest.mark.parametrize(
    "raw",
    [
        b'{"@timestamp":"2026-11-22T10:00:00.000Z","@timestamp":"2026-12-22T10:00:00.000Z","event_id":"%s"}',
        b'{"@timestamp":"2026-11-22T10:00:00.000Z","event_id":"%s","@timestamp":"2026-11-22T10:00:00.000Z"}',
        b'{"\\u0040timestamp":"2026-11-22T10:00:00.000Z","event_id":"%s"}',
    ],
)
def test_a_time_that_stores_find_in_different_places_is_refused(raw: bytes) -> None:
    reader = RecordReader(MAX_BYTES, MAX_DEPTH)
    for _ in range(2):
        reason = only_refusal(batch_of(raw % ID.encode(), reader=reader))
        assert reason == "its key @timestamp is repeated or written with escapes, which stores read differently"
        batch_of(event_of(), reader=reader)


@pytest.mark.parametrize("inner", [{"@timestamp": "noon"}, ["@timestamp"], 10**30])
def test_the_key_of_the_time_may_occur_elsewhere_in_a_record(inner: object) -> None:
    raw = b'{"@timestamp":"%s","inner":%s}' % (STAMP.encode(), json.dumps({"a": inner, "b": '"@timestamp"'}).encode())
    assert batch_of(raw).documents.bodies == [raw]


@pytest.mark.parametrize("time_ms", [0, -1, -(2**63), 2**63 - 1, 946_684_799_999, 4_102_444_800_000])
def test_a_record_without_a_time_and_without_one_of_the_log_is_refused_for_both(time_ms: int) -> None:
    batch = RecordBatch()
    RecordReader(MAX_BYTES, MAX_DEPTH).read(Chunk(LOG, [0], [time_ms], [b'{"a":1}']), batch)
    assert only_refusal(batch) == (
        f"it has no @timestamp, and the log's own time for it, {time_ms} ms, is unset or outside the years 2000 to 2099"
    )


def test_a_record_without_a_time_gets_the_one_at_which_it_was_written() -> None:
    for raw in (b'{"a": 1}', b'{\n  "a": 1}', b' { "a" : 1 }\r\n'):
        batch = batch_of(raw)
        assert orjson.loads(batch.documents.bodies[0]) == {"@timestamp": STAMP, "a": 1}
        assert batch.documents.indices == ["training_log-2026.11"]
        assert batch.originals == {0: raw}
    assert batch_of(b"{ }").documents.bodies == [b'{"@timestamp":"%s"}' % STAMP.encode()]
