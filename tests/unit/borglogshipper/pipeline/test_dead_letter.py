import base64
import hashlib
import json

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from borgcore.events.schema import SCHEMA_VERSION
from borglogshipper.pipeline.dead_letter import MAX_VALUE_BYTES, encode_dead_letter, read_dead_letter
from borglogshipper.pipeline.record import Refused
from borglogshipper.pipeline.record_id import Origin

from .fakes import LOG, TIME_MS

KAFKA_LIMIT_BYTES = 1_000_000


def letter_of(value: bytes | None, position: int = 7) -> dict[str, object]:
    found: dict[str, object] = orjson.loads(encode_dead_letter(Refused(Origin(LOG, position, TIME_MS), value, "why")))
    return found


def test_a_letter_says_what_was_refused_where_it_came_from_and_why() -> None:
    letter = letter_of(b"text \xc3\xbc")
    assert letter.pop("@timestamp")
    assert letter.pop("event_id")
    assert letter == {
        "event": "record_refused",
        "schema": SCHEMA_VERSION,
        "topic": "training_log",
        "partition": 0,
        "position": 7,
        "time_ms": TIME_MS,
        "reason": "why",
        "sha256": hashlib.sha256(b"text \xc3\xbc").hexdigest(),
        "size_bytes": 7,
        "truncated": False,
        "value": "text ü",
    }


def test_bytes_that_are_no_text_come_as_base64() -> None:
    for value in (b"\xff\x00", b"ends in half a character \xc3"):
        letter = letter_of(value)
        assert base64.b64decode(str(letter["value_base64"])) == value
        assert "value" not in letter


def test_a_record_without_a_value_has_a_letter_without_one() -> None:
    letter = letter_of(None)
    assert letter["value"] is None
    assert (letter["size_bytes"], letter["truncated"]) == (0, False)


@pytest.mark.parametrize("before", [0, 1, 2, 3])
def test_of_a_giant_text_the_beginning_comes_cut_between_characters(before: int) -> None:
    value = b"." * before + "🙂".encode() * MAX_VALUE_BYTES
    letter = letter_of(value)
    head = str(letter["value"])
    assert value.startswith(head.encode())
    assert MAX_VALUE_BYTES - 4 < len(head.encode()) <= MAX_VALUE_BYTES
    assert (letter["size_bytes"], letter["truncated"]) == (len(value), True)


@pytest.mark.parametrize("value", [b"\x01", b"\xff", b'"', "\x7fü".encode(), b"\\"])
def test_the_largest_letter_fits_kafkas_default_limit(value: bytes) -> None:
    giant = Refused(Origin(LOG, 2**63, TIME_MS), value * 10 * MAX_VALUE_BYTES, "\x01" * 300)
    assert len(encode_dead_letter(giant)) < KAFKA_LIMIT_BYTES


@given(st.binary(max_size=50), st.integers(0, 2**63))
def test_the_same_record_has_the_same_id_and_no_other_has_it(value: bytes, position: int) -> None:
    event_id = letter_of(value, position)["event_id"]
    assert event_id == letter_of(value, position)["event_id"]
    assert event_id != letter_of(value, position + 1)["event_id"]
    assert event_id != letter_of(value + b"!", position)["event_id"]


@given(st.none() | st.binary(max_size=50), st.integers(0, 2**63 - 1) | st.just("1795341600000-3"))
def test_the_record_is_read_from_its_letter_byte_for_byte(value: bytes | None, position: int | str) -> None:
    record = Refused(Origin(LOG, position, TIME_MS), value, "why")
    assert read_dead_letter(encode_dead_letter(record)) == record


def test_a_letter_that_holds_only_the_beginning_is_told_from_a_whole_one() -> None:
    letter = encode_dead_letter(Refused(Origin(LOG, 7, TIME_MS), b"0123456789", "why"), 4)
    with pytest.raises(ValueError, match=r"^it holds 4 of the 10 bytes of training_log-0-7$"):
        read_dead_letter(letter)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(st.binary(max_size=50) | JSON.map(lambda value: json.dumps(value).encode()))
def test_what_is_no_letter_is_refused(value: bytes) -> None:
    with pytest.raises(ValueError, match=r"^it is not a dead letter of a logshipper$"):
        read_dead_letter(value)


@pytest.mark.parametrize("field", ["topic", "partition", "position", "time_ms", "sha256", "size_bytes", "value"])
@pytest.mark.parametrize("wrong", [{}, [1], "no such", 1.5, True])
def test_a_letter_with_a_wrong_field_is_refused(field: str, wrong: object) -> None:
    letter = letter_of(b"{}") | {field: wrong}
    with pytest.raises(ValueError, match=r"^it "):
        read_dead_letter(orjson.dumps(letter))
