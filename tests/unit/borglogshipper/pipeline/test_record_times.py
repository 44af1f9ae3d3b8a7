"""The time of a record, which selects its index."""

import orjson
import pytest

from borglogshipper.pipeline.record import RecordBatch, RecordReader

from .fakes import MAX_BYTES, MAX_DEPTH, STAMP, batch_of, event_of

ID = "0193a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b"


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
        ("2026-11-30T23:59:59", "2026.11"),
        ("2026-11-30", "2026.11"),
        ("2000-01-01T00:00:00Z", "2000.01"),
        ("2099-12-31T23:59:59.999999999Z", "2099.12"),
        (1_795_341_600_000, "2026.11"),
        (1_795_341_600_000.5, "2026.11"),
    ],
)
def test_the_index_is_of_the_month_in_utc(stamp: object, month: str) -> None:
    assert index_of(stamp) == f"training_log-{month}"


@pytest.mark.parametrize(
    "stamp",
    ["1999-12-31T23:59:59Z", "2100-01-01T00:00:00Z", "1999-12-31T23:59:59.999-00:00", 0, -1, True, 4_102_444_800_000],
)
def test_an_impossible_year_is_refused(stamp: object) -> None:
    record = orjson.dumps({"@timestamp": stamp, "event_id": ID})
    assert "outside 2000 to 2099" in only_refusal(batch_of(record))


@pytest.mark.parametrize(
    "stamp",
    [
        "yesterday",
        "",
        None,
        [],
        {},
        "2026-02-30T00:00:00Z",
        "2026-13-01T00:00:00Z",
        "2026-11-22T24:30:00Z",
        "2026-11-22T10:60:00Z",
        "0001-01-01T00:00:00+23:59",
        "9999-12-31T23:59:59-23:59",
        2**64 - 1,
        -(2**63),
        1e300,
        "2026-11-22T10:0\u0660:00Z",
    ],
)
def test_an_invalid_time_is_refused_whether_its_day_is_known_or_not(stamp: object) -> None:
    reader = RecordReader(MAX_BYTES, MAX_DEPTH)
    record = orjson.dumps({"@timestamp": stamp, "event_id": ID})
    first = batch_of(record, reader=reader)
    batch_of(event_of(), reader=reader)
    again = batch_of(record, reader=reader)
    assert only_refusal(first) == only_refusal(again)
    assert "neither an ISO 8601 date" in only_refusal(first)


def test_a_record_without_a_time_gets_the_one_at_which_it_was_written() -> None:
    for raw in (b'{"a": 1}', b'{\n  "a": 1}', b' { "a" : 1 }\r\n'):
        batch = batch_of(raw)
        assert orjson.loads(batch.documents.bodies[0]) == {"@timestamp": STAMP, "a": 1}
        assert batch.documents.indices == ["training_log-2026.11"]
        assert batch.originals == {0: raw}
    assert batch_of(b"{ }").documents.bodies == [b'{"@timestamp":"%s"}' % STAMP.encode()]
