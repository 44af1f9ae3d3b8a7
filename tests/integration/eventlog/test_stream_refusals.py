"""Entries that a real server can never take: they are dropped and named, and all others arrive."""

from collections.abc import Callable
from pathlib import Path

import anyio
import orjson
import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs

from borgcore.connection.client import open_redis
from borgcore.errors import EventLogError
from borgcore.eventlog.protocol import EventsRefusedError, Outgoing
from borgcore.eventlog.publisher import open_publisher
from borgcore.eventlog.streams.consumer import open_stream_consumer
from borgcore.eventlog.streams.sender import open_stream_sender
from borgcore.events.topics import DEAD_LETTER
from borgcore.events.training import RunEnded
from borgcore.run.keys import RunKeys
from borgcore.settings.sections import EventsSettings, RedisSettings
from tests.limits import HANG_S
from tests.valkey import ValkeyServer

from .stream_log import MEMORY, TOPICS, TRAINING, fetch_all, numbered, numbers_in

LIMIT_BYTES = 1 << 20
LAST_ID = "18446744073709551615-18446744073709551615"


@pytest.fixture
def limited(start_valkey: Callable[..., ValkeyServer], short_folder: Path) -> EventsSettings:
    """A Valkey of the test's own with the lowest limit there is."""
    start_valkey(short_folder / "s", **{"proto-max-bulk-len": str(LIMIT_BYTES)})
    return EventsSettings(url=f"unix://{short_folder / 's'}")


async def test_entries_over_the_servers_limit_are_refused_and_all_others_arrive(
    limited: EventsSettings, run: str
) -> None:
    giant = Outgoing(TRAINING, b"k", b"9" * (LIMIT_BYTES + 1))
    allowed = Outgoing(TRAINING, b"k", b" " * (LIMIT_BYTES - 1) + b"5")
    sent = [*numbered(TRAINING, range(5)), giant, allowed, *numbered(MEMORY, range(3)), giant]
    with anyio.fail_after(HANG_S):
        async with (
            open_stream_sender(limited, run) as sender,
            open_stream_consumer(limited, run, TOPICS, group="g", member="m") as consumer,
        ):
            with pytest.raises(EventsRefusedError) as caught:
                await sender.send(sent)
            chunks = await fetch_all(consumer, 9)
            await sender.send(numbered(TRAINING, [6]))
            assert numbers_in(await fetch_all(consumer, 1)) == [6]
    refusals = caught.value.refusals
    assert {row: refusal.limit_bytes for row, refusal in refusals.items()} == {5: LIMIT_BYTES, 10: LIMIT_BYTES}
    assert refusals[5].reason == (
        f"the stream {RunKeys(run).events(TRAINING)} refused it: it has {LIMIT_BYTES + 1} bytes, "
        f"the server takes at most {LIMIT_BYTES} (proto-max-bulk-len)"
    )
    assert sorted(set(numbers_in(chunks))) == list(range(6))
    assert numbers_in(chunks, MEMORY)[-3:] == [0, 1, 2]


async def test_a_giant_event_is_dropped_and_named_and_a_publisher_goes_on(limited: EventsSettings, run: str) -> None:
    def ended(number: int, text: str) -> RunEnded:
        return RunEnded(agent=1, pid=1, steps=number, episodes=0, duration_s=1.0, reason=text)

    with anyio.fail_after(HANG_S), capture_logs() as logs:
        async with open_publisher(limited, run, "agent") as publisher:
            for number in range(20):
                publisher.publish(ended(number, "x" * (2 * LIMIT_BYTES) if number == 7 else "asked"))
            while publisher.pending:  # noqa: ASYNC110  # a publisher's state has no event
                await anyio.sleep(0.01)
        async with open_stream_consumer(limited, run, TOPICS, group="g", member="m") as consumer:
            chunks = await fetch_all(consumer, 20)
    assert (publisher.dropped, publisher.published) == (1, 20)
    found = [orjson.loads(value or b"") for chunk in chunks for value in chunk.values]
    assert {event["steps"] for event in found if event["event"] == "run_ended"} == set(range(20)) - {7}
    [refused] = [line for line in logs if line["event"] == "event_refused"]
    assert (refused["name"], refused["limit_bytes"]) == ("run_ended", LIMIT_BYTES)
    [report] = [event for event in found if event["event"] == "events_dropped"]
    assert (report["dropped"], report["reason"]) == (1, "refused")
    assert refused["event_id"] in report["first_refused"]


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [("SET {} text", "WRONGTYPE"), (f"XADD {{}} {LAST_ID} v 1", "The stream has exhausted the last possible ID")],
)
async def test_a_stream_that_takes_nothing_costs_no_event_of_another(
    settings: EventsSettings, run: str, redis: Redis, spoil: str, reason: str
) -> None:
    await redis.execute_command(*spoil.format(RunKeys(run).events(MEMORY)).split())  # type: ignore[no-untyped-call]  # redis-py
    with anyio.fail_after(HANG_S):
        async with open_stream_sender(settings, run) as sender:
            with pytest.raises(EventsRefusedError) as caught:
                await sender.send([*numbered(TRAINING, [1]), *numbered(MEMORY, [2, 3]), *numbered(TRAINING, [4])])
        async with open_stream_consumer(settings, run, [TRAINING], group="g", member="m") as consumer:
            assert numbers_in(await fetch_all(consumer, 2)) == [1, 4]
    assert list(caught.value.refusals) == [1, 2]
    assert f"the stream {RunKeys(run).events(MEMORY)} refused it: {reason}" in caught.value.refusals[1].reason


async def test_a_server_without_memory_refuses_no_single_entry(
    start_valkey: Callable[..., ValkeyServer], short_folder: Path, run: str
) -> None:
    start_valkey(short_folder / "s")
    url = f"unix://{short_folder / 's'}"
    with anyio.fail_after(HANG_S):
        async with (
            open_stream_sender(EventsSettings(url=url), run) as sender,
            open_redis(RedisSettings(url=url)) as redis,
        ):
            await sender.send(numbered(TRAINING, [0]))
            await redis.config_set("maxmemory", 1)
            with pytest.raises(EventLogError, match="out of memory") as caught:
                await sender.send(numbered(TRAINING, [1]))
            await redis.config_set("maxmemory", 0)
            await sender.send(numbered(TRAINING, [1]))
    assert not isinstance(caught.value, EventsRefusedError)


async def test_a_dead_letter_stream_that_is_no_stream_refuses_letters_by_name(
    settings: EventsSettings, run: str, redis: Redis
) -> None:
    key = RunKeys(run).events(DEAD_LETTER)
    await redis.set(key, "text")
    with anyio.fail_after(HANG_S):
        async with open_stream_consumer(settings, run, TOPICS, group="g", member="m") as consumer:
            with pytest.raises(EventsRefusedError) as caught:
                await consumer.send_dead_letters([b"one", b"two"])
            await redis.delete(key)
            await consumer.send_dead_letters([b"one", b"two"])
    assert list(caught.value.refusals) == [0, 1]
    assert f"the stream {key} refused it: WRONGTYPE" in str(caught.value)
    assert await redis.xlen(key) == 2
