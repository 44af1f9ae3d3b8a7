"""One event of every class, with a value in every field."""

from typing import Any

from borgcore.eventlog.publisher import encode_event
from borgcore.events.reference import list_events, list_fields
from borgcore.events.schema import Event
from borgcore.events.topics import TOPICS
from borglogshipper.stores.store import Documents

VALUES: dict[str, Any] = {
    "boolean": True,
    "integer": 2**53 + 1,
    "number": 0.1,
    "object": {"replay": {"capacity": 1_000_000, "alpha": 0.6, "names": ["a", None]}},
    "string": 'Zürich "quoted" \\ \U0001f600 \x01',
}


def make_events() -> list[Event]:
    classes = [event for topic in TOPICS for event in list_events(topic)]
    return [
        event.model_validate({field.name: VALUES[field.json_type] for field in list_fields(event)}) for event in classes
    ]


def make_documents(month: str = "2026.11") -> Documents:
    """Of all the sample events."""
    documents = Documents([], [], [])
    for number, event in enumerate(make_events()):
        documents.indices.append(f"{event.topic}-{month}")
        documents.ids.append(f"sample-{number}")
        documents.bodies.append(encode_event(event, "pong"))
    return documents


def report(loss: str = "0.5") -> bytes:
    return b'{"@timestamp":"2026-11-22T10:00:00.000Z","event":"learner_reported","loss":%s}' % loss.encode()
