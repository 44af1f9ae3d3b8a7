"""Dead letters: records that can never be stored, each with its origin and the reason."""

import base64
import binascii
import codecs
import hashlib
import uuid
from datetime import UTC, datetime
from typing import Annotated

import orjson
from pydantic import BaseModel, Field, ValidationError

from borgcore.eventlog.protocol import Partition
from borgcore.events.schema import SCHEMA_VERSION
from borgcore.events.timestamp import as_timestamp
from borgcore.events.topics import RECORD_REFUSED, Topic
from borglogshipper.pipeline.record import Refused
from borglogshipper.pipeline.record_id import Origin, origin_id

_utf8_decoder = codecs.getincrementaldecoder("utf-8")
MAX_VALUE_BYTES = 100_000  # of the record's value; even escaped it stays below Kafka's default limit of a megabyte


def encode_dead_letter(refused: Refused, max_value_bytes: int = MAX_VALUE_BYTES) -> bytes:
    """Encode a dead letter; the same record always gets the same event_id.

    Text is kept as ``value``, other bytes as ``value_base64``; a long value is truncated, and the origin says where to
    find the whole record.
    """
    origin, value, reason = refused
    digest = hashlib.sha256(value or b"").hexdigest()
    dead_letter = {
        "@timestamp": as_timestamp(datetime.now(UTC)),
        "event_id": str(uuid.uuid5(uuid.NAMESPACE_OID, f"{origin_id(origin)} {digest}")),
        "event": RECORD_REFUSED,
        "schema": SCHEMA_VERSION,
        "topic": origin.partition.topic,
        "partition": origin.partition.number,
        "position": origin.position,
        "time_ms": origin.time_ms,
        "reason": reason,
        "sha256": digest,
        "size_bytes": len(value or b""),
        "truncated": len(value or b"") > max_value_bytes,
    }
    return orjson.dumps(dead_letter | _value(value, max_value_bytes))


def _value(value: bytes | None, max_bytes: int) -> dict[str, str | None]:
    if value is None:
        return {"value": None}
    head = value[:max_bytes]
    try:  # the cut may fall within a character
        return {"value": _utf8_decoder().decode(head, final=len(value) == len(head))}
    except UnicodeDecodeError:
        return {"value_base64": base64.b64encode(head).decode()}


class _Letter(BaseModel, strict=True):
    topic: Topic
    partition: int = Field(ge=0)
    position: Annotated[int, Field(ge=0)] | Annotated[str, Field(pattern=r"^\d+-\d+$")]
    time_ms: int
    reason: str
    sha256: str
    size_bytes: int
    value: str | None = None
    value_base64: str | None = None

    def content(self) -> bytes | None:
        """Return what it holds of the record's value."""
        if self.value_base64 is not None:
            return base64.b64decode(self.value_base64, validate=True)
        return None if self.value is None else self.value.encode()


def read_dead_letter(letter: bytes) -> Refused:
    """Return the record that a letter is about.

    Raises:
        ValueError: the letter is not of :func:`encode_dead_letter`, or holds only the beginning of the record.
    """
    try:
        found = _Letter.model_validate_json(letter)
        value = found.content()
    except (ValidationError, UnicodeEncodeError, binascii.Error):
        raise ValueError("it is not a dead letter of a logshipper") from None
    origin = Origin(Partition(found.topic, found.partition), found.position, found.time_ms)
    if hashlib.sha256(value or b"").hexdigest() != found.sha256:
        held = len(value or b"")
        raise ValueError(f"it holds {held} of the {found.size_bytes} bytes of {origin_id(origin)}")
    return Refused(origin, value, found.reason)
