"""An event as one readable line: time, agent, name, and fields rounded to useful digits."""

import json
from datetime import datetime
from typing import Any

import orjson
from rich.text import Text

from borgcore.errors import CorruptDataError

_ENVELOPE = frozenset({"@timestamp", "event_id", "event", "schema", "run", "agent"})
# A sample has about fifty fields and is published every second: only these are shown.
_WATCHED = {
    "memory_sampled": (
        "replay_transitions",
        "replay_bytes_per_transition",
        "replay_inserts_per_s",
        "replay_samples_per_s",
        "replay_samples_per_insert",
        "redis_memory_used_bytes",
        "redis_memory_max_bytes",
        "redis_instantaneous_ops_per_sec",
        "redis_evicted_keys_total",
        "fcall_p99_us",
    )
}
_LONGEST = 60  # characters of a nested value; --json shows it whole
_WHOLE = 1000.0  # larger numbers are shown without a fraction


def render_event(document: str) -> Text:
    """Render a stored document.

    Raises:
        CorruptDataError: the document is not a JSON object.
    """
    try:
        event: dict[str, Any] = orjson.loads(document)
        fields = {name: value for name, value in event.items() if name not in _ENVELOPE}
    except (orjson.JSONDecodeError, AttributeError):
        raise CorruptDataError(f"an event is no JSON object: {document[:80]!r}; --json shows all as stored") from None
    agent = "" if event.get("agent") is None else f"agent {_format(event['agent'])}"
    line = Text.assemble(
        (_local_time(event.get("@timestamp")), "dim"),
        f"  {agent:<8}  ",
        (f"{_format(event.get('event', '-')):<16}", "bold cyan"),
    )
    shown = [name for name in _WATCHED.get(str(event.get("event")), fields) if name in fields]
    for name in shown:
        line.append(f"  {_format(name)}=", "dim").append(_format(fields[name]))
    return line.append("  …", "dim") if len(shown) < len(fields) else line


def _local_time(stamp: object) -> str:
    try:
        return f"{datetime.fromisoformat(str(stamp)).astimezone():%Y-%m-%d %H:%M:%S}"
    except (ValueError, OverflowError):
        return f"{_format(stamp):<19}"


def _format(value: object) -> str:
    """Write a value on one line; control characters are escaped."""
    match value:
        case float():
            return f"{value:.0f}" if abs(value) >= _WHOLE else f"{value:.4g}"
        case str() if value and value.isprintable() and not any(mark in value for mark in ' ="'):
            return value
        case dict() | list():
            text = json.dumps(value)
            return text if len(text) <= _LONGEST else "{…}" if isinstance(value, dict) else "[…]"
        case _:
            return json.dumps(value)
