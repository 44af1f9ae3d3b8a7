"""The events that agents have published, each held to its class."""

import uuid
from datetime import UTC, datetime
from types import NoneType
from typing import Any, get_args

import orjson
from redis.asyncio import Redis

from borgcore.events.schema import SCHEMA_VERSION, Event
from borgcore.events.training import AgentReported, EpisodeEnded, LearnerReported, RunEnded, RunStarted
from borgcore.run.keys import RunKeys
from tests.limits import LONG_TEST_TIMEOUT_S

from .process import RUN

TOLD: tuple[type[Event], ...] = (RunStarted, RunEnded, EpisodeEnded, AgentReported, LearnerReported)
ENVELOPE = {"@timestamp", "event_id", "event", "schema", "run"}


async def read_stream(redis: Redis) -> list[dict[str, Any]]:
    """The run's events, oldest first."""
    entries: Any = await redis.xrange(RunKeys(RUN).events("training_log"))
    return [orjson.loads(fields[b"v"]) for _, fields in entries]


def check_event(event: dict[str, Any]) -> Event:
    """Validate an event by its class: no field more, and none less but those that may be absent."""
    kind = {told.name: told for told in TOLD}[event["event"]]
    assert set(event) >= ENVELOPE
    assert (event["schema"], event["run"]) == (SCHEMA_VERSION, RUN)
    assert uuid.UUID(event["event_id"]).version == 7
    age_s = (datetime.now(UTC) - datetime.fromisoformat(event["@timestamp"])).total_seconds()
    assert -1.0 < age_s < LONG_TEST_TIMEOUT_S
    assert None not in event.values()
    absent: dict[str, Any] = {
        name: None for name, field in kind.model_fields.items() if NoneType in get_args(field.annotation)
    }
    return kind.model_validate(absent | {name: event[name] for name in set(event) - ENVELOPE}, strict=True)
