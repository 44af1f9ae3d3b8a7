"""Index templates for Elasticsearch, derived from the event classes: exactly their fields are mapped.

Unknown fields are kept in ``_source`` but not indexed, so that events of a newer producer are accepted. ``coerce`` is
off, because a value converted to the mapped type would be searched as another value than ``_source`` shows. The refresh
interval is Elasticsearch's default: every second, but only on indices that are being searched.
"""

from typing import Any

from borgcore.events.reference import ENVELOPE, list_events, list_fields
from borgcore.events.schema import SCHEMA_VERSION
from borgcore.events.template_changes import fingerprint
from borgcore.events.topics import Topic

PRIORITY = 200  # above the 100 of Elasticsearch's own templates
LONGEST_KEYWORD = 1024  # characters; a longer string is stored but not indexed
_MAPPINGS: dict[str, dict[str, Any]] = {
    "boolean": {"type": "boolean"},
    "date": {"type": "date"},
    "integer": {"type": "long"},
    "number": {"type": "double"},
    "object": {"type": "object", "enabled": False},
    "string": {"type": "keyword", "ignore_above": LONGEST_KEYWORD},
}


def index_template(topic: Topic, prefix: str, replicas: int, policy: str | None = None) -> dict[str, Any]:
    """Return the template of a topic's indices, ``<prefix><topic>-*``; ``policy`` is that of their lifecycle."""
    index: dict[str, Any] = {"number_of_shards": 1, "number_of_replicas": replicas, "mapping": {"coerce": False}}
    if policy is not None:
        index["lifecycle"] = {"name": policy}
    content = {
        "index_patterns": [f"{prefix}{topic}-*"],
        "priority": PRIORITY,
        "version": SCHEMA_VERSION,
        "template": {
            "settings": {"index": index},
            "mappings": {"dynamic": False, "properties": _properties(topic)},
        },
    }
    description = "Events of Borg-DQN; a changed template is kept, see docs/operations.md"
    return content | {
        "_meta": {"schema": SCHEMA_VERSION, "description": description, "fingerprint": fingerprint(content)}
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
