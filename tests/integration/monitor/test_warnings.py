from collections.abc import Callable

import anyio
from anyio import to_thread
from redis.asyncio import Redis

from borgcore.connection.client import open_redis
from borgcore.replay import Replay
from borgcore.run.leases import claim
from borgcore.settings.sections import RedisSettings
from tests.limits import HANG_S

from .conftest import Breakable, transitions
from .watch import watching


async def test_evictions_are_warned_of_once_and_cleared_when_they_have_ended(
    start_server: Callable[..., Breakable], run: str
) -> None:
    server = await to_thread.run_sync(lambda: start_server(**{"maxmemory-policy": "allkeys-lru"}))
    with anyio.fail_after(HANG_S):
        async with open_redis(RedisSettings(url=server.url)) as redis, watching(server.url, run) as watch:
            used = (await redis.info("memory"))["used_memory"]
            await redis.config_set("maxmemory", used + 500_000)
            await watch.poll()
            for _ in range(3):
                for name in range(100):
                    await redis.set(f"{run}:{name}:{anyio.current_time()}", b"x" * 10_000)
                await watch.poll()
            assert ("keys_evicted", "onset") in watch.warned
            await redis.config_set("maxmemory", used * 100)
            await watch.until(lambda watch: ("keys_evicted", "clear") in watch.warned)
            await watch.poll()
    evictions = [warning for warning in watch.warnings() if warning.kind == "keys_evicted"]
    assert [warning.state for warning in evictions] == ["onset", "clear"]
    assert (evictions[0].value or 0) > 0
    assert evictions[0].node == server.address


async def test_memory_above_90_percent_of_maxmemory_is_warned_of(server: Breakable, redis: Redis, run: str) -> None:
    with anyio.fail_after(HANG_S):
        async with watching(server.url, run) as watch:
            used = (await redis.info("memory"))["used_memory"]
            await redis.config_set("maxmemory", used * 2)
            await watch.poll()
            assert watch.warned == []
            await redis.config_set("maxmemory", int(used * 1.05))
            await watch.poll()
            await watch.poll()
            assert watch.warned == [("memory_high", "onset")]
            assert (watch.warnings()[0].value or 0) > (watch.warnings()[0].limit or 0) > 0
            await redis.config_set("maxmemory", used * 2)
            await watch.until(lambda watch: len(watch.warned) > 1)
    assert watch.warned == [("memory_high", "onset"), ("memory_high", "clear")]


async def test_a_failed_background_save_is_warned_of_until_one_succeeds(
    server: Breakable, redis: Redis, run: str
) -> None:
    with anyio.fail_after(HANG_S):
        async with watching(server.url, run) as watch:
            await server.occupy_dump()
            await redis.bgsave()
            await watch.until(lambda watch: bool(watch.warned))
            await watch.poll()
            assert watch.warned == [("bgsave_failed", "onset")]
            (sample,) = await watch.poll()
            assert sample.redis_rdb_last_bgsave_status == 0
            await server.free_dump()
            await redis.bgsave()
            await watch.until(lambda watch: len(watch.warned) > 1)
    assert watch.warned == [("bgsave_failed", "onset"), ("bgsave_failed", "clear")]


async def test_stalled_inserts_are_warned_of_while_agents_are_alive(
    server: Breakable, redis: Redis, replay: Replay, run: str
) -> None:
    with anyio.fail_after(HANG_S):
        async with watching(server.url, run, stall_s=0.3) as watch:
            await replay.push(transitions(10))
            await watch.poll()
            since_s = anyio.current_time()
            await watch.until(lambda _: anyio.current_time() > since_s + 0.5)
            assert watch.warned == []  # no agent is alive
            lease = await claim(redis, run, 1, 10 * HANG_S)
            assert lease is not None
            await watch.until(lambda watch: bool(watch.warned))
            stalled = watch.warnings()[0]
            assert (stalled.value or 0) >= 0.3
            assert stalled.text == f"no transition was stored for {stalled.value:.0f} s; agents alive: 1"
            await replay.push(transitions(1))
            await watch.poll()
            assert watch.warned == [("inserts_stalled", "onset"), ("inserts_stalled", "clear")]
            await watch.until(lambda watch: len(watch.warned) > 2)
            await lease.release()
            await watch.poll()
    assert watch.warned[2:] == [("inserts_stalled", "onset"), ("inserts_stalled", "clear")]
