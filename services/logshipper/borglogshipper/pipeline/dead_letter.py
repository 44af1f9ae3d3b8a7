"""Dead letters: records that can never be stored, each with its origin and the reason."""

import base64
import codecs
import hashlib
import uuid
from datetime import UTC, datetime

import orjson

from borgcore.events.schema import SCHEMA_VERSION
from borgcore.events.timestamp import as_timestamp
from borglogshipper.pipeline.record import Refused
from borglogshipper.pipeline.record_id import origin_id

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
        "event": "record_refused",
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
