from collections.abc import Callable
from urllib.parse import urlsplit

import anyio
import pytest
from anyio import to_thread
from redis.asyncio import Redis

from borgcore.connection.client import open_redis
from borgcore.errors import SettingsError
from borgcore.events.monitoring import MemorySampled
from borgcore.replay import Replay
from borgcore.run.keys import RunKeys
from borgcore.run.leases import claim
from borgcore.settings.sections import RedisSettings
from borgmonitor.nodes import SECTIONS, check_settings
from tests.limits import HANG_S

from .conftest import Breakable, fill, transitions
from .watch import proxied, watching


async def test_every_field_has_a_value_on_the_newest_and_the_oldest_server(
    start_server: Callable[..., Breakable], run: str
) -> None:
    server = await to_thread.run_sync(lambda: start_server(appendonly="yes"))
    with anyio.fail_after(HANG_S):
        async with open_redis(RedisSettings(url=server.url)) as redis, watching(server.url, run) as watch:
            await redis.config_set("maxmemory", "512mb")
            await fill(redis, run)
            await watch.poll()
            await fill(redis, run)
            sample = await watch.sample()
            info = await redis.info("all")
    missing = [name for name, value in sample.model_dump().items() if value is None]
    assert missing == []
    assert sample.node == server.address
    assert f"{sample.server} {sample.server_version}" == (
        f"Valkey {info['valkey_version']}" if "valkey_version" in info else f"Redis {info['redis_version']}"
    )
    assert sample.redis_memory_max_bytes == 512 << 20
    assert sample.redis_aof_enabled == sample.redis_rdb_last_bgsave_status == sample.redis_aof_last_write_status == 1
    assert sample.fcall_calls_total is not None
    assert sample.fcall_calls_total >= 6
    assert (sample.fcall_calls_per_s or 0) > 0
    assert (sample.fcall_p99_us or 0) >= (sample.fcall_p50_us or 0) > 0


async def test_the_memory_is_measured_with_its_rates_and_the_agents_alive(
    server: Breakable, redis: Redis, replay: Replay, run: str
) -> None:
    with anyio.fail_after(HANG_S):
        async with watching(server.url, run) as watch:
            first = await watch.sample()
            assert (first.replay_transitions, first.replay_capacity_transitions, first.replay_agents) == (0, 1_000, 0)
            assert (first.replay_inserts_per_s, first.replay_bytes_per_transition) == (None, 0.0)
            await replay.push(transitions(100))
            await replay.sample(50)
            assert await claim(redis, run, 1, 10 * HANG_S)
            assert await claim(redis, run, 3, 10 * HANG_S)
            second = await watch.sample()
            stats = await replay.stats()
    assert second.replay_agents == 2
    assert (second.replay_transitions, second.replay_inserted_total, second.replay_sampled_total) == (100, 100, 50)
    assert second.replay_samples_per_insert == 0.5
    assert second.replay_bytes == stats.bytes
    assert second.replay_bytes_per_transition == stats.bytes_per_transition > 1_000
    assert (second.replay_inserts_per_s or 0) == 2 * (second.replay_samples_per_s or 0) > 0


async def test_without_a_memory_the_server_is_sampled_and_nothing_is_said_of_replay(
    redis_settings: RedisSettings, run: str
) -> None:
    with anyio.fail_after(HANG_S):
        async with watching(redis_settings.url, run) as watch:
            sample = await watch.sample()
    assert (sample.redis_memory_used_bytes or 0) > 0
    told = [name for name, value in sample.model_dump().items() if name.startswith("replay_") and value is not None]
    assert told == ["replay_agents"]
    assert watch.warned == []


async def test_a_period_takes_one_round_trip(redis_settings: RedisSettings, run: str) -> None:
    with anyio.fail_after(HANG_S):
        async with proxied(urlsplit(redis_settings.url).port or 0) as proxy, watching(proxy.url, run) as watch:
            await watch.poll()
            assert proxy.round_trips == 2  # the first looks whether there is a cluster
            for _ in range(5):
                await watch.poll()
            assert proxy.round_trips == 7


async def test_all_sections_are_asked_by_one_command(server: Breakable, redis: Redis, run: str) -> None:
    with anyio.fail_after(HANG_S):
        async with watching(server.url, run) as watch:
            await watch.poll()
            await redis.config_resetstat()
            await watch.poll()
            calls = {
                name.removeprefix("cmdstat_"): stats["calls"]
                for name, stats in (await redis.info("commandstats")).items()
            }
    assert {name: calls.get(name) for name in ("info", "hmget", "memory|usage", "exists")} == {
        "info": 1,
        "hmget": 1,
        "memory|usage": 3,
        "exists": 1,
    }
    assert "latencystats" in SECTIONS


async def test_a_memory_that_lost_a_field_is_a_warning_and_the_server_is_sampled_on(
    server: Breakable, redis: Redis, replay: Replay, run: str
) -> None:
    with anyio.fail_after(HANG_S):
        async with watching(server.url, run) as watch:
            await replay.push(transitions(10))
            await redis.hdel(RunKeys(run).meta, "capacity")
            sample = await watch.sample()
            assert isinstance(sample, MemorySampled)
            assert sample.replay_transitions is None
            assert watch.warned == [("replay_unreadable", "onset")]
            assert "is incomplete" in watch.warnings()[0].text
            await redis.delete(RunKeys(run).meta)
            await redis.set(RunKeys(run).meta, "no hash")
            await watch.poll()
            await redis.delete(RunKeys(run).meta)
            await watch.poll()
    assert watch.warned == [("replay_unreadable", "onset"), ("replay_unreadable", "clear")]


async def test_a_server_that_speaks_tls_is_watched(tls_settings: RedisSettings, run: str) -> None:
    with anyio.fail_after(HANG_S):
        async with watching(tls_settings.url, run, redis_ca_file=tls_settings.ca_file) as watch:
            assert (await watch.sample()).node == tls_settings.address


async def test_a_wrong_url_or_certificate_file_is_named(tmp_path: object) -> None:
    wrong = RedisSettings(url="http://localhost")
    with pytest.raises(SettingsError, match=r"^redis url: scheme 'http', expected redis://.*; nothing was started$"):
        await to_thread.run_sync(check_settings, wrong)
    absent = RedisSettings(url="rediss://localhost", ca_file=f"{tmp_path}/absent.pem")
    with pytest.raises(
        SettingsError,
        match=r"^redis ca_file: .*absent.pem is no file; expected a PEM certificate authority; nothing was started$",
    ):
        await to_thread.run_sync(check_settings, absent)
