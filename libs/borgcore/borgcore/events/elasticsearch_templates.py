"""Index templates for Elasticsearch, derived from the events' classes: exactly their fields are mapped.

Fields that no event has are kept in ``_source`` but not indexed, so a newer producer is not refused. A number is not
taken for another type of number and a string not for a number (``coerce``): it would be found as another value than
the one that is shown. The refresh interval is left as it is: each second while somebody searches, else not at all.
"""

from typing import Any

from borgcore.events.reference import ENVELOPE, list_events, list_fields
from borgcore.events.schema import SCHEMA_VERSION
from borgcore.events.topics import Topic

PRIORITY = 200  # above 100, which Elasticsearch's own templates have
LONGEST_KEYWORD = 1024  # characters; a longer string is kept, but not found by
_MAPPINGS: dict[str, dict[str, Any]] = {
    "boolean": {"type": "boolean"},
    "date": {"type": "date"},
    "integer": {"type": "long"},
    "number": {"type": "double"},
    "object": {"type": "object", "enabled": False},
    "string": {"type": "keyword", "ignore_above": LONGEST_KEYWORD},
}


def index_template(topic: Topic, prefix: str, replicas: int) -> dict[str, Any]:
    """Make the template of a topic's indices, ``<prefix><topic>-*``."""
    return {
        "index_patterns": [f"{prefix}{topic}-*"],
        "priority": PRIORITY,
        "version": SCHEMA_VERSION,
        "_meta": {"schema": SCHEMA_VERSION, "description": "Events of Borg-DQN, installed by its logshipper"},
        "template": {
            "settings": {
                "index": {"number_of_shards": 1, "number_of_replicas": replicas, "mapping": {"coerce": False}}
            },
            "mappings": {"dynamic": False, "properties": _properties(topic)},
        },
    }


def _properties(topic: Topic) -> dict[str, dict[str, Any]]:
    types = {field.name: field.json_type for field in ENVELOPE}
    for event in list_events(topic):
        for field in list_fields(event):
            if types.setdefault(field.name, field.json_type) != field.json_type:
                raise TypeError(
                    f"{topic} has a field {field.name} of type {types[field.name]} and, in {event.name}, of type "
                    f"{field.json_type}; one name has one type in all events of a topic"
                )
    return {name: dict(_MAPPINGS[json_type]) for name, json_type in types.items()}
