"""Names events that the log can never take; they are dropped, because sending them again would block all others."""

from collections.abc import Collection

import orjson
import structlog

from borgcore.eventlog.protocol import Outgoing, Refusal
from borgcore.events.schema import Event

MOST_LOGGED = 20  # events of one send, each in a line of its own
_CONSEQUENCE = "it is dropped and counted; the others are sent"
_log = structlog.get_logger()


def log_unencodable(event: Event, error: Exception) -> str:
    """Log an event that JSON cannot hold; return the log's text."""
    reason = " ".join(f"it cannot be encoded as JSON: {error}".split())
    _log.warning("event_refused", name=event.name, topic=event.topic, reason=reason, consequence=_CONSEQUENCE)
    return f"{event.name}: {reason}"


def log_refused(refused: Collection[tuple[Outgoing, Refusal]]) -> dict[tuple[str, str], list[str]]:
    """Log the first few of the events that the log refused in one send; return the texts of all, by topic and name."""
    texts: dict[tuple[str, str], list[str]] = {}
    for row, (event, refusal) in enumerate(refused):
        envelope = orjson.loads(event.value)
        name, event_id, size_bytes = envelope["event"], envelope["event_id"], len(event.value)
        text = f"{name} {event_id} of {size_bytes} bytes: {refusal.reason}"
        texts.setdefault((event.topic, name), []).append(text)
        if row < MOST_LOGGED:
            _log.warning(
                "event_refused",
                name=name,
                event_id=event_id,
                topic=event.topic,
                size_bytes=size_bytes,
                limit_bytes=refusal.limit_bytes,
                reason=refusal.reason,
                consequence=_CONSEQUENCE,
            )
    if len(refused) > MOST_LOGGED:
        _log.warning(
            "events_refused", events=len(refused), logged=MOST_LOGGED, consequence="all are dropped and counted"
        )
    return texts
