import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from borglogshipper.pipeline.record import RecordReader
from borglogshipper.pipeline.record_id import NIL, read_uuid

from .fakes import MAX_BYTES, MAX_DEPTH, batch_of, event_of


def spellings(found: uuid.UUID) -> list[str]:
    plain = [str(found), found.hex, f"{{{found}}}", f"{{{found.hex}}}", found.urn, f"urn:uuid:{found.hex}"]
    return plain + [text.upper() for text in plain]


@given(st.uuids())
def test_every_spelling_of_a_uuid_is_one_id(found: uuid.UUID) -> None:
    assert {read_uuid(text) for text in spellings(found)} == {None if found.int == 0 else str(found)}


@pytest.mark.parametrize(
    "event_id",
    [
        "0193a1b2-c3d47e5f-8a9b-0c1d2e3f4a5b",
        "0193a1b2c3d4-7e5f-8a9b-0c1d2e3f4a5b",
        "{0193a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b",
        "0193a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b}",
        "(0193a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b)",
        "uuid:0193a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b",
        " 0193a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b",
        "0193a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b\n",
        "\u0660193a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b",
        "0193a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5",
        "01JDSTZ0Z7E7V8V2Q3M4N5P6R7",
        NIL,
        NIL.replace("-", ""),
        "",
        7,
        None,
    ],
)
def test_what_is_no_uuid_and_the_nil_uuid_give_no_id(event_id: object) -> None:
    assert read_uuid(event_id) is None
    reader = RecordReader(MAX_BYTES, MAX_DEPTH)
    for _ in range(2):  # the first of a day goes another way than the rest
        batch = batch_of(event_of(event_id=event_id), reader=reader)
        assert batch.documents.ids == ["training_log-0-0"]
        assert batch.foreign == {0}


def test_a_record_keeps_its_own_spelling_in_its_document() -> None:
    reader = RecordReader(MAX_BYTES, MAX_DEPTH)
    found = uuid.uuid4()
    for text in spellings(found):
        raw = event_of(event_id=text)
        batch = batch_of(raw, reader=reader)
        assert batch.documents.ids == [str(found)]
        assert batch.documents.bodies == [raw]
        assert batch.foreign == set()
