from collections.abc import Callable
from pathlib import Path

import anyio
import orjson
import pytest
import structlog
from anyio.to_thread import run_sync

from borgcore.eventlog import publisher
from borgcore.eventlog.protocol import Chunk
from borgcore.eventlog.publisher import open_publisher
from borgcore.eventlog.streams.consumer import open_stream_consumer
from borgcore.events.training import RunEnded
from borgcore.settings.sections import EventsSettings
from tests.limits import HANG_S
from tests.valkey import ValkeyServer

from .stream_log import MEMORY, TOPICS, TRAINING, fetch_all


@pytest.fixture
def own_settings(short_folder: Path) -> EventsSettings:
    """Of the server that the test starts and stops."""
    return EventsSettings(url=f"unix://{short_folder / 's'}", buffer=100)


@pytest.fixture
def valkey(start_valkey: Callable[..., ValkeyServer], short_folder: Path) -> ValkeyServer:
    return start_valkey(short_folder / "s", appendonly="yes", appendfsync="always")


def ended(number: int) -> RunEnded:
    return RunEnded(agent=1, pid=1, steps=number, episodes=0, duration_s=1.0, reason="asked")


async def wait_until(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(HANG_S):
        while not condition():  # noqa: ASYNC110  # a publisher's state has no event
            await anyio.sleep(0.01)


def decoded(chunks: list[Chunk], topic: str) -> list[dict[str, object]]:
    return [orjson.loads(value or b"") for chunk in chunks if chunk.partition.topic == topic for value in chunk.values]


async def test_a_publisher_outlasts_its_server_and_publishes_exactly_what_it_dropped(
    own_settings: EventsSettings, run: str, valkey: ValkeyServer
) -> None:
    with anyio.fail_after(HANG_S), structlog.testing.capture_logs() as logs:
        async with open_publisher(own_settings, run, "agent") as events:
            for number in range(50):
                events.publish(ended(number))
            await wait_until(lambda: events.connected and not events.pending)
            await run_sync(valkey.terminate)
            for number in range(50, 130):
                events.publish(ended(number))
            await wait_until(lambda: not events.connected)
            assert (events.pending, events.dropped) == (80, 0)
            for number in range(130, 400):
                events.publish(ended(number))
            assert (events.pending, events.dropped) == (100, 250)
            await run_sync(valkey.start)
            await wait_until(lambda: events.connected and not events.pending)
        async with open_stream_consumer(own_settings, run, TOPICS, group="g", member="m") as consumer:
            chunks = await fetch_all(consumer, 151)
            assert await consumer.fetch(10, 0.1) == []
    numbers = [event["steps"] for event in decoded(chunks, TRAINING)]
    assert numbers[:50] == list(range(50))
    assert numbers == sorted(set(numbers))  # type: ignore[type-var]  # they are numbers
    assert len(numbers) == 150
    assert numbers[-1] == 399
    [said] = decoded(chunks, MEMORY)
    assert (said["event"], said["dropped"], said["reason"]) == ("events_dropped", 250, "buffer_full")
    names = [log["event"] for log in logs if not log["event"].startswith("redis_")]
    assert names == ["event_log_lost", "events_dropping", "event_log_regained"]


async def test_a_publisher_whose_server_is_absent_from_the_start_loses_nothing_that_fits(
    own_settings: EventsSettings, run: str, start_valkey: Callable[..., ValkeyServer], short_folder: Path
) -> None:
    with anyio.fail_after(HANG_S), structlog.testing.capture_logs() as logs:
        async with open_publisher(own_settings, run, "agent") as events:
            for number in range(100):
                events.publish(ended(number))
            await wait_until(lambda: not events.connected)
            await run_sync(start_valkey, short_folder / "s")
            await wait_until(lambda: events.connected and not events.pending)
        async with open_stream_consumer(own_settings, run, TOPICS, group="g", member="m") as consumer:
            chunks = await fetch_all(consumer, 100)
    assert [event["steps"] for event in decoded(chunks, TRAINING)] == list(range(100))
    assert [log["event"] for log in logs] == ["event_log_lost", "event_log_regained"]


async def test_a_publisher_says_what_the_cap_removed(
    settings: EventsSettings, run: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publisher, "TRIM_CHECK_S", 0.0)
    with anyio.fail_after(HANG_S):
        capped = settings.model_copy(update={"stream_cap": 40})
        async with open_publisher(capped, run, "agent") as events:
            for number in range(100):
                events.publish(ended(number))
            await wait_until(lambda: events.published == 101)
        async with open_stream_consumer(capped, run, TOPICS, group="g", member="m") as consumer:
            chunks = await fetch_all(consumer, 41)
    assert [event["steps"] for event in decoded(chunks, TRAINING)] == list(range(60, 100))
    [said] = decoded(chunks, MEMORY)
    assert (said["event"], said["dropped"], said["dropped_topic"]) == ("events_dropped", 60, TRAINING)
    assert said["reason"] == "stream_trimmed"
