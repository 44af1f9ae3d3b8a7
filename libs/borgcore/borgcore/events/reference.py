"""Every event in words: ``python -m borgcore.events.reference`` prints docs/events.md."""

import sys
import types
from collections.abc import Iterable, Iterator
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin

from borgcore.events import monitoring, training  # noqa: F401  # their classes are the events
from borgcore.events.schema import SCHEMA_VERSION, Event, find_figure
from borgcore.events.topics import DEAD_LETTER, DEAD_LETTER_CAP, TOPICS, Topic

_HEAD = f"""\
# Events

Written by `python -m borgcore.events.reference` from the classes in `training.py` and `monitoring.py`; this is
version {SCHEMA_VERSION}.

An event is one JSON object. It is the same, byte for byte, in the log (a Kafka record, the field `v` of an entry of a
Redis stream) and in SQLite (the column `document`), and the same `_source` in Elasticsearch. A field without a value is
left out. Names end in their unit; counters start at 0 with the process that reports them unless stated otherwise.

The id of a document is its `event_id`, so a record that is sent or shipped twice is stored once. A foreign record
without one gets `<topic>-<partition>-<position>`, its place in the log. Elasticsearch keeps one index for each topic
and month of `@timestamp`, `<topic>-<year>.<month>` such as `training_log-2026.11`, with a setting's prefix before it;
fields that are not listed here are kept there and not indexed.

Records that can never be stored go to the topic `{DEAD_LETTER}`, with their origin and the reason. As a Redis stream it
keeps the newest {DEAD_LETTER_CAP:,}; older ones are trimmed, counted and reported, as in every stream (`events_dropped`).

## Every event

These fields come first."""
_TYPE_NAMES = {"date": "string"}
_JSON_TYPES: dict[Any, str] = {bool: "boolean", int: "integer", float: "number", str: "string", dict: "object"}


class Field(NamedTuple):
    """One field of an event's JSON."""

    name: str
    json_type: str
    """boolean, integer, number, string, object; date is a string that stores know as a time."""
    description: str
    optional: bool = False
    """Whether it may be absent."""
    kind: str = ""
    """counter, gauge, rate or share, where it is a figure of a report."""


ENVELOPE = (
    Field("@timestamp", "date", "When it was published: ISO 8601, UTC, milliseconds, `Z` at the end."),
    Field("event_id", "string", "UUIDv7, made by its producer; the id of the document in every store."),
    Field("event", "string", "Name of the event."),
    Field("schema", "integer", f"Version of this list, {SCHEMA_VERSION}."),
    Field("run", "string", "Name of the run."),
)
"""Fields that the publisher puts before those of every event."""


def list_events(topic: Topic) -> list[type[Event]]:
    """The events of a topic, in the order in which they are written down."""
    return [event for event in _subclasses(Event) if getattr(event, "topic", None) == topic]


def list_fields(event: type[Event]) -> list[Field]:
    """The fields of an event, without the envelope.

    Raises:
        TypeError: a field is of a type that has no place in the events' JSON.
    """
    fields = []
    for name, info in event.model_fields.items():
        json_type, nullable = _read_type(info.annotation, f"{event.__name__}.{name}")
        description = " ".join((info.description or "").split())
        figure = find_figure(info)
        optional, kind = nullable or not info.is_required(), "" if figure is None else figure.kind
        fields.append(Field(name, json_type, description, optional, kind))
    return fields


def write_reference() -> str:
    """docs/events.md."""
    sections = [_HEAD, _table(ENVELOPE)]
    for topic in TOPICS:
        sections.append(f"## {topic}")
        for event in list_events(topic):
            sections += [f"### {event.name}", " ".join((event.__doc__ or "").split()), _table(list_fields(event))]
    return "\n\n".join(sections) + "\n"


def _table(fields: Iterable[Field]) -> str:
    rows = [f"| `{field.name}` | {_kind(field)} | {_meaning(field)} |" for field in fields]
    return "\n".join(["| field | type | meaning |", "|---|---|---|", *rows])


def _kind(field: Field) -> str:
    json_type = _TYPE_NAMES.get(field.json_type, field.json_type)
    return f"{json_type}, {field.kind}" if field.kind else json_type


def _meaning(field: Field) -> str:
    text = field.description.replace("|", "\\|")
    if field.optional and "absent" not in text:
        return f"{text} Absent if there is none.".strip()
    return text


def _subclasses(parent: type[Event]) -> Iterator[type[Event]]:
    for child in parent.__subclasses__():
        if "name" in child.__dict__:
            yield child
        yield from _subclasses(child)


def _read_type(annotation: Any, where: str) -> tuple[str, bool]:
    """Find the JSON type, and whether None is allowed too."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in {Union, types.UnionType}:
        kinds = [one for one in arguments if one is not types.NoneType]
        if len(kinds) == 1:
            return _read_type(kinds[0], where)[0], len(kinds) < len(arguments)
    elif origin is Literal and all(isinstance(value, str) for value in arguments):
        return "string", False
    elif found := _JSON_TYPES.get(origin or annotation):
        return found, False
    raise TypeError(f"{where} is of type {annotation}; expected bool, int, float, str, Literal of str, or dict")


if __name__ == "__main__":
    sys.stdout.write(write_reference())
