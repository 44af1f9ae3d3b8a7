import uuid

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from borgcore.eventlog.protocol import Chunk, Partition
from borglogshipper.pipeline.record import RecordBatch, RecordReader
from borglogshipper.pipeline.record_id import origin_id

from .fakes import LOG, MAX_BYTES, MAX_DEPTH, STAMP, TIME_MS, batch_of, chunk_of, event_of

ID = "0193a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b"
finite = st.floats(allow_nan=False, allow_infinity=False)
leaves = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | finite | st.text(max_size=9)
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=9,
)
indents = st.sampled_from([None, orjson.OPT_INDENT_2])


def only_refusal(batch: RecordBatch) -> str:
    assert not batch.origins
    assert not batch.documents.bodies
    assert len(batch) == 1
    return batch.refused[0].reason


def nested(depth: int) -> bytes:
    return b'{"@timestamp":"%s","event_id":"%s","inner":%s%s}' % (
        STAMP.encode(),
        ID.encode(),
        b"[" * (depth - 1),
        b"]" * (depth - 1),
    )


def test_our_own_events_pass_through_byte_for_byte() -> None:
    reader = RecordReader(MAX_BYTES, MAX_DEPTH)
    records = [event_of(agent=agent, text="{[ü\\n") for agent in range(3)]
    for _ in range(2):  # the first of a day goes another way than the rest
        batch = batch_of(*records, reader=reader)
        assert batch.documents.bodies == records
        assert all(body is record for body, record in zip(batch.documents.bodies, records, strict=True))
        assert batch.documents.ids == [orjson.loads(record)["event_id"] for record in records]
        assert batch.documents.indices == ["training_log-2026.11"] * 3
        assert [origin.position for origin in batch.origins] == [0, 1, 2]
        assert (batch.foreign, batch.originals, batch.refused) == (set(), {}, [])
        assert batch.size_bytes == sum(map(len, records))


@given(st.lists(st.tuples(st.dictionaries(st.text(max_size=5), values, max_size=4), indents), max_size=4), st.uuids())
def test_any_object_with_an_id_and_a_time_becomes_the_same_object_in_one_line(
    found: list[tuple[dict[str, object], int | None]], event_id: uuid.UUID
) -> None:
    objects = [record | {"event_id": str(event_id), "@timestamp": STAMP} for record, _ in found]
    raw = [orjson.dumps(one, option=indent) for one, (_, indent) in zip(objects, found, strict=True)]
    batch = batch_of(*raw, reader=RecordReader(100_000, 50))
    assert [orjson.loads(body) for body in batch.documents.bodies] == objects
    assert not any(b"\n" in body or b"\r" in body for body in batch.documents.bodies)
    assert not batch.foreign


@given(st.lists(st.binary(max_size=40) | values.map(orjson.dumps) | st.none(), max_size=6))
@example([b"", b"{", b"\xff", b'"\xed\xa0\x80"', b"{}", b"\x00{}"])
def test_whatever_the_bytes_each_record_ends_as_a_document_or_refused(raw: list[bytes | None]) -> None:
    batch = batch_of(*raw)
    assert len(batch.documents.bodies) + len(batch.refused) == len(raw) == len(batch)
    documents = batch.documents
    assert len(batch.origins) == len(documents.ids) == len(documents.indices) == len(documents.bodies)
    for body in batch.documents.bodies:
        assert isinstance(orjson.loads(body), dict)
        assert b"\n" not in body
        assert b"\r" not in body
    assert sorted([*batch.origins, *(refused.origin for refused in batch.refused)]) == [
        (LOG, position, TIME_MS) for position in range(len(raw))
    ]


def test_a_record_without_an_event_id_is_named_after_its_origin() -> None:
    chunk = Chunk(Partition("training_log", 2), ["1700000000000-5"], [TIME_MS], [b'{"a":1}'])
    batch = RecordBatch()
    RecordReader(MAX_BYTES, MAX_DEPTH).read(chunk, batch)
    assert batch.documents.ids == ["training_log-2-1700000000000-5"] == [origin_id(batch.origins[0])]
    assert batch.foreign == {0}


@pytest.mark.parametrize("event_id", [None, 7, "", "x", ID + "0", ID[:-1] + "g", '"; drop', ["a"], {"a": 1}, ID + "\n"])
def test_an_event_id_that_is_not_a_uuid_is_not_used_as_id(event_id: object) -> None:
    reader = RecordReader(MAX_BYTES, MAX_DEPTH)
    batch_of(event_of(), reader=reader)
    batch = batch_of(event_of(), event_of(event_id=event_id), reader=reader)
    assert batch.documents.ids[1] == "training_log-0-1"
    assert batch.foreign == {1}


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"null", "not a JSON object but NoneType"),
        (b"[1]", "not a JSON object but list"),
        (b"7", "not a JSON object but int"),
        (b'"text"', "not a JSON object but str"),
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"{}{}", "not JSON"),
        (b'{"a":NaN}', "not JSON"),
        (b'{"a":Infinity}', "not JSON"),
        (b'{"a":-Infinity}', "not JSON"),
        (b'{"a":1e999}', "not JSON"),
        (b'{"a":"\xff"}', "not JSON"),
        (b'{"a":"\xed\xa0\x80"}', "not JSON"),
        (b'{"a":"\\ud800"}', "not JSON"),
        (b'{"\\udfff":1}', "not JSON"),
        (b"\xef\xbb\xbf{}", "not JSON"),
        (b'{"a":"\n"}', "not JSON"),
        (None, "no value"),
    ],
)
def test_a_record_that_is_not_a_json_object_is_refused_with_the_reason(raw: bytes | None, reason: str) -> None:
    batch = batch_of(raw)
    assert reason in only_refusal(batch)
    assert batch.refused[0].value == raw
    assert batch.refused[0].origin == (LOG, 0, TIME_MS)


def test_duplicate_keys_and_huge_integers_are_left_to_the_store() -> None:
    for inner in (b'"a":1,"a":2', b'"a":%d' % 2**70):
        raw = event_of()[:-1] + b"," + inner + b"}"
        assert batch_of(raw).documents.bodies == [raw]


def test_nesting_is_refused_above_its_limit_alone() -> None:
    reader = RecordReader(1_000_000, MAX_DEPTH)
    assert len(batch_of(nested(MAX_DEPTH), reader=reader).origins) == 1
    assert len(batch_of(nested(MAX_DEPTH), reader=reader).origins) == 1
    for depth, reason in (
        (MAX_DEPTH + 1, f"nested {MAX_DEPTH + 1} deep"),
        (1_000, "nested 1000 deep"),
        (100_000, "JSON"),
    ):
        assert reason in only_refusal(batch_of(nested(depth), reader=reader))


def test_brackets_in_a_string_are_not_nesting() -> None:
    reader = RecordReader(MAX_BYTES, MAX_DEPTH)
    for _ in range(2):
        assert len(batch_of(event_of(text="[{" * 100), reader=reader).origins) == 1


def test_a_record_is_refused_above_the_limit_of_bytes_alone() -> None:
    raw = event_of()
    at_the_limit = raw[:-1] + b" " * (MAX_BYTES - len(raw)) + b"}"
    assert batch_of(at_the_limit).documents.bodies == [at_the_limit]
    assert only_refusal(batch_of(at_the_limit + b" ")) == "it has 1001 bytes, the limit is 1000"


@pytest.mark.parametrize("line_break", [b"\n", b"\r\n", b"\r"])
def test_json_over_several_lines_becomes_one(line_break: bytes) -> None:
    record = {"@timestamp": STAMP, "event_id": ID, "inner": {"text": "one\ntwo\r\nthree"}}
    raw = orjson.dumps(record, option=orjson.OPT_INDENT_2).replace(b"\n", line_break) + line_break
    reader = RecordReader(MAX_BYTES, MAX_DEPTH)
    for _ in range(2):
        batch = batch_of(raw, reader=reader)
        [body] = batch.documents.bodies
        assert orjson.loads(body) == record
        assert not set(b"\r\n") & set(body)
        assert batch.refused_at(0, "why").value == raw


def test_picked_documents_keep_their_origin_their_original_and_whether_they_are_foreign() -> None:
    own, foreign, pretty = event_of(), b'{"a":1}', event_of() + b"\n"
    batch = batch_of(own, None, foreign, pretty)
    picked = batch.pick([2, 1])
    assert [origin.position for origin in picked.origins] == [3, 2]
    assert picked.documents.bodies == [pretty.strip(), batch.documents.bodies[1]]
    assert picked.foreign == {1}
    assert [picked.refused_at(row, "").value for row in (0, 1)] == [pretty, foreign]
    assert picked.refused == []
    assert picked.size_bytes == sum(map(len, picked.documents.bodies))


def test_a_renamed_documents_id_includes_its_digest_once() -> None:
    one, two = batch_of(b'{"a":1}'), batch_of(b'{"a":2}')
    assert one.rename(0)
    assert two.rename(0)
    assert one.documents.ids != two.documents.ids
    assert all(batch.documents.ids[0].startswith("training_log-0-0-") for batch in (one, two))
    assert not one.rename(0)


def test_partitions_of_one_batch_keep_their_own_indices() -> None:
    batch, reader = RecordBatch(), RecordReader(MAX_BYTES, MAX_DEPTH)
    for topic in ("training_log", "memory_monitoring", "training_log"):
        reader.read(chunk_of(event_of(), partition=Partition(topic, 0)), batch)
    assert batch.documents.indices == ["training_log-2026.11", "memory_monitoring-2026.11", "training_log-2026.11"]
