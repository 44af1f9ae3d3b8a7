"""A memory whose description in Redis lost a field, as by a hand that deleted it."""

from collections.abc import AsyncIterator

import anyio
import pytest
from redis.asyncio import Redis

from borgcore.connection.client import address_of, open_redis
from borgcore.errors import CorruptDataError
from borgcore.replay import Replay, ReplaySettings, ReplaySpec, open_replay, read_stats
from borgcore.run.keys import RunKeys
from borgcore.settings.sections import RedisSettings
from tests.limits import HANG_S

SPEC = ReplaySpec("pong", stack=4, height=8, width=6, n=3, actions=6, gamma=0.99)
SETTINGS = ReplaySettings(capacity=100, min_size=10, samples_per_insert=0.0)


@pytest.fixture
async def redis(redis_settings: RedisSettings) -> AsyncIterator[Redis]:
    async with open_redis(redis_settings) as redis:
        yield redis


@pytest.fixture
async def replay(redis: Redis, run: str) -> AsyncIterator[Replay]:
    async with open_replay(redis, run, SPEC, SETTINGS) as replay:
        yield replay


def text_of(redis: Redis, run: str) -> str:
    return (
        f"the replay memory of run {run!r} at {address_of(redis)} is broken: {RunKeys(run).meta} is incomplete, "
        "expected spec, capacity, indexed, inserted and sampled; choose another run, or delete the keys of this one"
    )


@pytest.mark.parametrize("lost", ["spec", "capacity", "indexed", "inserted", "sampled"])
async def test_a_memory_that_lost_a_field_is_refused_by_name(replay: Replay, redis: Redis, run: str, lost: str) -> None:
    assert replay.inserted == 0
    with anyio.fail_after(HANG_S):
        assert await redis.hdel(RunKeys(run).meta, lost) == 1
        with pytest.raises(CorruptDataError) as measured:
            await read_stats(redis, run)
        with pytest.raises(CorruptDataError) as opened:
            async with open_replay(redis, run, SPEC, SETTINGS):
                pass
    assert str(measured.value) == str(opened.value) == text_of(redis, run)


async def test_a_number_that_is_none_is_refused_by_name(replay: Replay, redis: Redis, run: str) -> None:
    assert replay.inserted == 0
    with anyio.fail_after(HANG_S):
        await redis.hset(RunKeys(run).meta, "inserted", "many")
        with pytest.raises(CorruptDataError, match="is incomplete"):
            await read_stats(redis, run)


async def test_a_memory_that_loses_its_capacity_in_the_middle_ends_calls_by_name(
    replay: Replay, redis: Redis, run: str
) -> None:
    with anyio.fail_after(HANG_S):
        await redis.hdel(RunKeys(run).meta, "capacity")
        for call in (replay.stats, replay.wait_to_insert, lambda: replay.sample(4)):
            with pytest.raises(CorruptDataError, match="is incomplete"):
                await call()


async def test_of_a_run_without_a_memory_there_is_nothing_to_measure(redis: Redis, run: str) -> None:
    with anyio.fail_after(HANG_S):
        assert await read_stats(redis, run) is None
