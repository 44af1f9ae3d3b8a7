from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from functools import partial
from typing import Any

import anyio
import numpy as np
import pytest
import structlog
from redis.asyncio import Redis

from borgcore.connection.client import open_redis
from borgcore.errors import ServerError
from borgcore.replay import Replay, ReplaySettings, ReplaySpec, Transition, open_replay
from borgcore.replay.library import NAME
from borgcore.run.keys import RunKeys
from borgcore.settings.sections import RedisSettings
from tests.limits import HANG_S
from tests.valkey import ValkeyServer

SPEC = ReplaySpec("pong", stack=4, height=84, width=84, n=3, actions=6, gamma=0.99)
SETTINGS = ReplaySettings(capacity=1_000, min_size=10, samples_per_insert=0.0, seed=7)


def transitions(count: int) -> list[Transition]:
    """Frames that hardly compress: a kilobyte is a kilobyte."""
    rng = np.random.default_rng(0)
    return [Transition(rng.integers(0, 256, (7, 84, 84), np.uint8), 0, float(i), 0.5, 3, 1.0) for i in range(count)]


async def push_for_ever(replay: Replay) -> None:
    some = transitions(20)
    while True:
        await replay.push(some)


@pytest.fixture
async def redis(redis_settings: RedisSettings) -> AsyncIterator[Redis]:
    async with open_redis(redis_settings) as redis:
        yield redis


async def test_functions_flushed_in_the_middle_are_loaded_again(redis: Redis, run: str) -> None:
    with anyio.fail_after(HANG_S):
        async with open_replay(redis, run, SPEC, SETTINGS) as replay:
            await replay.push(transitions(10))
            await redis.function_flush()
            batch = await replay.sample(8)
            await redis.function_delete(NAME)
            assert await replay.reprioritise(batch.ids_B, np.ones(8)) == 8
            await redis.function_flush()
            assert await replay.wait_to_insert()


async def test_a_memory_deleted_in_the_middle_is_started_again_and_logged(redis: Redis, run: str) -> None:
    keys = RunKeys(run)
    with anyio.fail_after(HANG_S):
        async with open_replay(redis, run, SPEC, SETTINGS) as replay:
            await replay.push(transitions(20))
            await redis.delete(keys.slots, keys.priorities, keys.meta)
            with structlog.testing.capture_logs() as logs:
                assert await replay.push(transitions(10)) == 9
            assert [log["event"] for log in logs] == ["replay_memory_lost"]
            assert (await replay.stats()).size == 10
            assert (await replay.sample(4)).ids_B.max() < 10


async def test_a_restarted_server_brings_the_memory_back_and_calls_in_between_wait_for_it(
    start_redis: Callable[..., Any], run: str
) -> None:
    server = await anyio.to_thread.run_sync(partial(start_redis, appendonly="yes"))
    settings = RedisSettings(url=server.connection_url, timeout_s=0.5)
    patient = SETTINGS.model_copy(update={"push_timeout_s": HANG_S, "sample_timeout_s": HANG_S})
    with anyio.fail_after(HANG_S):
        async with open_redis(settings) as redis, open_replay(redis, run, SPEC, patient) as replay:
            await replay.push(transitions(50))
            before = await replay.sample(32)
            await anyio.to_thread.run_sync(server.stop)
            pushed: list[int] = []

            async def push() -> None:
                pushed.append(await replay.push(transitions(1)))

            async with anyio.create_task_group() as group:
                with structlog.testing.capture_logs() as logs:
                    group.start_soon(push)
                    while not logs:
                        await anyio.lowlevel.checkpoint()
                    await anyio.to_thread.run_sync(server.start)
            assert pushed == [50]
            async with open_replay(redis, run, SPEC, patient) as again:
                assert again.inserted == 51
                after = await again.sample(32)
    assert [log["event"] for log in logs][:1] == ["redis_lost"]
    assert {log["event"] for log in logs} <= {"redis_lost", "redis_regained"}
    assert after.reward_B.max() > 1
    assert len(before) == len(after)


async def test_an_absent_server_ends_a_push_in_time_naming_its_address(
    start_valkey: Callable[..., ValkeyServer], run: str
) -> None:
    server = await anyio.to_thread.run_sync(start_valkey)
    settings, port = RedisSettings(url=server.connection_url, timeout_s=0.5), server.port
    impatient = SETTINGS.model_copy(update={"push_timeout_s": 2.0, "sample_timeout_s": 2.0})
    with anyio.fail_after(HANG_S):
        async with open_redis(settings) as redis, open_replay(redis, run, SPEC, impatient) as replay:
            await anyio.to_thread.run_sync(server.stop)
            with pytest.raises(TimeoutError, match=rf"push: no answer from Redis at 127.0.0.1:{port} within 2 s"):
                await replay.push(transitions(1))
            with pytest.raises(TimeoutError, match="replay sample: no answer"):
                await replay.sample(1)


async def test_a_full_server_refuses_pushes_by_name_and_still_gives_samples(
    start_valkey: Callable[..., ValkeyServer], run: str
) -> None:
    server = await anyio.to_thread.run_sync(partial(start_valkey, maxmemory="16mb"))
    small = SETTINGS.model_copy(update={"capacity": 5_000})
    with anyio.fail_after(HANG_S):
        async with (
            open_redis(RedisSettings(url=server.connection_url)) as redis,
            open_replay(redis, run, SPEC, small) as replay,
        ):
            with pytest.raises(ServerError, match=f"Redis at 127.0.0.1:{server.port} is out of memory"):
                await push_for_ever(replay)
            batch = await replay.sample(8)
            assert await replay.reprioritise(batch.ids_B, np.ones(8)) == 8
            assert replay.inserted > 0


@pytest.mark.parametrize("kind", ["valkey", "redis"])
async def test_a_memory_on_a_full_server_is_joined_and_sampled(
    request: pytest.FixtureRequest, run: str, kind: str
) -> None:
    server = await anyio.to_thread.run_sync(request.getfixturevalue(f"start_{kind}"))
    with anyio.fail_after(HANG_S):
        async with open_redis(RedisSettings(url=server.connection_url)) as redis:
            async with open_replay(redis, run, SPEC, SETTINGS) as replay:
                await replay.push(transitions(20))
            await redis.config_set("maxmemory", "1mb")  # less than is in use
            async with open_replay(redis, run, SPEC, SETTINGS) as replay:
                assert replay.inserted == 20
                batch = await replay.sample(8)
                assert await replay.reprioritise(batch.ids_B, np.ones(8)) == 8
                with pytest.raises(ServerError, match="is out of memory"):
                    await replay.push(transitions(1))


async def test_a_server_that_became_a_replica_ends_a_push_by_name(start_redis: Callable[..., Any], run: str) -> None:
    server = await anyio.to_thread.run_sync(start_redis)
    with anyio.fail_after(HANG_S):
        async with (
            open_redis(RedisSettings(url=server.connection_url)) as redis,
            open_replay(redis, run, SPEC, SETTINGS) as replay,
        ):
            await redis.replicaof("127.0.0.1", 1)
            with pytest.raises(ServerError, match=f"Redis at 127.0.0.1:{server.port} is a read-only replica"):
                await replay.push(transitions(1))


async def test_a_cancelled_sample_leaves_the_memory_usable(redis: Redis, run: str) -> None:
    with anyio.fail_after(HANG_S):
        async with open_replay(redis, run, SPEC, SETTINGS) as replay:
            await replay.push([replace(one, priority=float(i)) for i, one in enumerate(transitions(50))])
            for wait_s in np.linspace(0.0, 0.01, 25):
                with anyio.move_on_after(wait_s):
                    await replay.sample(16)
                batch = await replay.sample(4)
                assert batch.ids_B.max() < 50
            assert await replay.push(transitions(1)) == 50
