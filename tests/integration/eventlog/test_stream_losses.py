"""Entries that others removed from a stream before they were read."""

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import anyio
import pytest
from anyio import to_thread
from redis.asyncio import Redis

from borgcore.connection.client import open_redis
from borgcore.errors import SettingsError
from borgcore.eventlog.open import check_log
from borgcore.eventlog.protocol import Loss, Partition
from borgcore.eventlog.streams import consumer as stream_consumer
from borgcore.eventlog.streams.consumer import StreamConsumer, open_stream_consumer
from borgcore.eventlog.streams.sender import open_stream_sender
from borgcore.run.keys import RunKeys
from borgcore.settings.sections import EventsSettings, RedisSettings
from tests.limits import HANG_S
from tests.valkey import ValkeyServer

from .stream_log import TOPICS, TRAINING, end_of, fetch_all, numbered

EVENTS = 100
Remove = Callable[[Redis, str], Awaitable[Any]]


@pytest.fixture(autouse=True)
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trim, and so look for losses, at every read."""
    monkeypatch.setattr(stream_consumer, "TRIM_PERIOD_S", 0.0)


async def lost(consumer: StreamConsumer) -> int:
    """Look once; the entries lost in the stream of training since the last time."""
    await consumer.fetch(1, 0.0)
    losses = consumer.take_losses()
    assert all(loss == Loss(Partition(TRAINING, 0), loss.records, "deleted_unread") for loss in losses)
    return sum(loss.records for loss in losses)


async def trim_half(redis: Redis, key: str) -> None:
    await redis.xtrim(key, maxlen=EVENTS // 2, approximate=False)


async def delete_half(redis: Redis, key: str) -> None:
    found: Any = await redis.xrange(key)
    ids = [entry for entry, _ in found]
    await redis.xdel(key, *ids[20 : 20 + EVENTS // 2])


async def delete_all(redis: Redis, key: str) -> None:
    await redis.delete(key)


async def replace_all(redis: Redis, key: str) -> None:
    await redis.delete(key)
    for number in range(2 * EVENTS):
        await redis.xadd(key, {"v": str(number)})


REMOVALS: dict[Remove, int] = {
    trim_half: EVENTS // 2,
    delete_half: EVENTS // 2,
    delete_all: EVENTS,
    replace_all: EVENTS,
}


@pytest.mark.parametrize("remove", REMOVALS)
@pytest.mark.parametrize("reads", [True, False], ids=["a reader was there", "a reader starts later"])
async def test_what_others_remove_unread_is_counted_once(
    settings: EventsSettings, run: str, redis: Redis, remove: Remove, reads: bool
) -> None:
    with anyio.fail_after(HANG_S):
        async with open_stream_sender(settings, run) as sender:
            if reads:
                async with open_stream_consumer(settings, run, TOPICS, group="g", member="m") as consumer:
                    assert await lost(consumer) == 0
            await sender.send(numbered(TRAINING, range(EVENTS)))
            await remove(redis, RunKeys(run).events(TRAINING))
            async with open_stream_consumer(settings, run, TOPICS, group="g", member="m") as consumer:
                assert await lost(consumer) == REMOVALS[remove]
                assert await lost(consumer) == 0
            async with open_stream_consumer(settings, run, TOPICS, group="other", member="m") as other:
                assert await lost(other) == 0


async def test_a_server_that_forgot_everything_is_noticed_by_a_sender_that_lives(
    start_valkey: Callable[..., ValkeyServer], run: str
) -> None:
    server = await to_thread.run_sync(start_valkey)
    settings = EventsSettings(url=server.connection_url)
    with anyio.fail_after(HANG_S):
        async with (
            open_redis(RedisSettings(url=server.connection_url)) as redis,
            open_stream_sender(settings, run) as sender,
            open_stream_sender(settings, run) as other,
        ):
            await sender.send(numbered(TRAINING, range(EVENTS)))
            await other.send(numbered(TRAINING, range(EVENTS)))
            await redis.flushall()
            await other.send(numbered(TRAINING, range(3 * EVENTS)))
            await sender.send(numbered(TRAINING, range(3)))
            async with open_stream_consumer(settings, run, TOPICS, group="g", member="m") as consumer:
                assert await lost(consumer) == 2 * EVENTS


async def test_what_was_read_and_acknowledged_is_not_lost(settings: EventsSettings, run: str, redis: Redis) -> None:
    key = RunKeys(run).events(TRAINING)
    with anyio.fail_after(HANG_S):
        async with (
            open_stream_sender(settings, run) as sender,
            open_stream_consumer(settings, run, TOPICS, group="g", member="m") as consumer,
        ):
            for _ in range(3):
                await sender.send(numbered(TRAINING, range(EVENTS)))
                chunks = await fetch_all(consumer, EVENTS)
                await consumer.commit(end_of(chunks[:1]))
                assert await lost(consumer) == 0
                await consumer.commit(end_of(chunks))
                assert await lost(consumer) == 0
            await sender.send(numbered(TRAINING, range(EVENTS)))
            held = await fetch_all(consumer, EVENTS)
            await redis.xtrim(key, maxlen=0, approximate=False)
            assert await lost(consumer) == 0
            await consumer.commit(end_of(held))
            assert await lost(consumer) == 0


async def test_what_went_while_a_group_was_destroyed_is_lost_to_it(
    settings: EventsSettings, run: str, redis: Redis
) -> None:
    with anyio.fail_after(HANG_S):
        async with (
            open_stream_sender(settings, run) as sender,
            open_stream_consumer(settings, run, TOPICS, group="fast", member="m") as fast,
        ):
            async with open_stream_consumer(settings, run, TOPICS, group="slow", member="m") as slow:
                assert await lost(slow) == 0
            await sender.send(numbered(TRAINING, range(EVENTS)))
            await redis.xgroup_destroy(RunKeys(run).events(TRAINING), "slow")
            await fast.commit(end_of(await fetch_all(fast, EVENTS)))
            assert await lost(fast) == 0
            async with open_stream_consumer(settings, run, TOPICS, group="slow", member="m") as slow:
                assert await lost(slow) == EVENTS


@pytest.mark.parametrize("how", ["SETID", "DELCONSUMER", "XACK"])
@pytest.mark.parametrize("groups", [1, 2])
async def test_what_a_group_was_moved_past_is_lost(
    settings: EventsSettings, run: str, redis: Redis, how: str, groups: int
) -> None:
    key = RunKeys(run).events(TRAINING)
    with anyio.fail_after(HANG_S):
        async with AsyncExitStack() as stack:
            sender = await stack.enter_async_context(open_stream_sender(settings, run))
            faster = [  # others that are never the slowest
                await stack.enter_async_context(open_stream_consumer(settings, run, TOPICS, group="fast", member="m"))
                for _ in range(groups - 1)
            ]
            for _ in range(2):
                async with open_stream_consumer(settings, run, TOPICS, group="g", member="m") as consumer:
                    await sender.send(numbered(TRAINING, range(EVENTS)))
                    await consumer.commit(end_of(await fetch_all(consumer, EVENTS)))
                    assert await lost(consumer) == 0
                    await sender.send(numbered(TRAINING, range(EVENTS)))
                    if how != "SETID":
                        await fetch_all(consumer, EVENTS)
                for fast in faster:
                    await fast.commit(end_of(await fetch_all(fast, 2 * EVENTS)))
                found: Any = await redis.xrange(key)
                match how:
                    case "SETID":
                        await redis.xgroup_setid(key, "g", "$")
                    case "DELCONSUMER":
                        await redis.xgroup_delconsumer(key, "g", "m")
                    case _:
                        await redis.xack(key, "g", *[entry for entry, _ in found])
                async with open_stream_consumer(settings, run, TOPICS, group="g", member="m") as consumer:
                    assert await lost(consumer) == EVENTS
                    assert await lost(consumer) == 0


async def test_an_evicting_server_is_refused_and_warned_of_if_it_becomes_one(
    start_redis: Callable[..., Any], run: str
) -> None:
    server = await to_thread.run_sync(start_redis)
    settings = EventsSettings(url=server.connection_url)
    text = (
        f"Redis at 127.0.0.1:{server.port} has maxmemory-policy allkeys-lru, which would evict events that nobody has "
        "read; expected noeviction"
    )
    with anyio.fail_after(HANG_S):
        async with open_redis(RedisSettings(url=server.connection_url)) as redis:
            await redis.config_set("maxmemory-policy", "allkeys-lru")
            async with open_stream_consumer(settings, run, TOPICS, group="g", member="m") as consumer:
                assert (await consumer.retention_use()).share == 0.0  # without a limit nothing is evicted
                await redis.config_set("maxmemory", "1gb")
                assert await consumer.retention_use() == (1.0, text)
            with pytest.raises(SettingsError) as refused:
                await check_log(settings)
            assert str(refused.value) == f"event log: {text}"
            with pytest.raises(SettingsError, match="allkeys-lru"):
                async with open_stream_consumer(settings, run, TOPICS, group="g", member="m"):
                    pass


async def test_unread_entries_near_the_cap_are_in_danger(settings: EventsSettings, run: str) -> None:
    settings = settings.model_copy(update={"stream_cap": 2 * EVENTS})
    with anyio.fail_after(HANG_S):
        async with (
            open_stream_sender(settings, run) as sender,
            open_stream_consumer(settings, run, TOPICS, group="g", member="m") as consumer,
        ):
            await sender.send(numbered(TRAINING, range(EVENTS)))
            use = await consumer.retention_use()
            assert use == (0.5, f"{EVENTS} entries of {TRAINING} are unread, the oldest are trimmed at {2 * EVENTS}")
