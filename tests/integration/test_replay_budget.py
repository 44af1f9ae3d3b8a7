from collections.abc import Callable
from functools import partial

import anyio
import numpy as np
import pytest
from structlog.testing import capture_logs

from borgcore.connection.client import open_redis
from borgcore.errors import SettingsError
from borgcore.replay import ReplaySettings, ReplaySpec, Transition, open_replay
from borgcore.run.keys import RunKeys
from borgcore.settings.sections import RedisSettings
from tests.limits import HANG_S
from tests.valkey import ValkeyServer

SPEC = ReplaySpec("pong", stack=4, height=84, width=84, n=3, actions=6, gamma=0.99)
SETTINGS = ReplaySettings(capacity=50_000, min_size=10, samples_per_insert=0.0, seed=7)


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({"maxmemory": "12mb"}, r"capacity: 50000 transitions of about \d+ bytes .* half of the maxmemory of 12582912"),
        ({"maxmemory": "12mb", "maxmemory-policy": "allkeys-lru"}, "maxmemory-policy allkeys-lru, which would evict"),
    ],
)
async def test_a_server_too_small_for_the_capacity_is_refused_naming_both(
    start_valkey: Callable[..., ValkeyServer], run: str, config: dict[str, str], text: str
) -> None:
    server = await anyio.to_thread.run_sync(lambda: start_valkey(**config))
    with anyio.fail_after(HANG_S):
        async with open_redis(RedisSettings(url=server.connection_url)) as redis:
            with pytest.raises(SettingsError, match=text):
                async with open_replay(redis, run, SPEC, SETTINGS):
                    pass
            assert not await redis.exists(RunKeys(run).meta)


async def test_a_memory_that_grew_beyond_its_budget_is_joined_with_a_warning_that_names_its_size(
    start_valkey: Callable[..., ValkeyServer], run: str
) -> None:
    server = await anyio.to_thread.run_sync(partial(start_valkey, maxmemory="200mb"))
    rng = np.random.default_rng(0)  # frames that do not compress: 50 times the estimate
    bulky = [Transition(rng.integers(0, 256, (7, 84, 84), np.uint8), 0, 0.0, 0.5, 3, 1.0) for _ in range(20)]
    with anyio.fail_after(HANG_S):
        async with open_redis(RedisSettings(url=server.connection_url)) as redis:
            async with open_replay(redis, run, SPEC, SETTINGS) as replay:
                for _ in range(50):
                    await replay.push(bulky)
            with capture_logs() as logs:
                async with open_replay(redis, run, SPEC, SETTINGS) as again:
                    assert again.inserted == 1_000
                    await again.sample(8)
    (warning,) = logs
    assert (warning["event"], warning["log_level"]) == ("replay_budget_exceeded", "warning")
    assert 49_000 < warning["bytes_per_transition"] < 60_000
    assert (warning["capacity"], warning["maxmemory_bytes"]) == (50_000, 200 << 20)


async def test_a_memory_is_joined_even_if_a_new_one_would_be_refused(
    start_valkey: Callable[..., ValkeyServer], run: str
) -> None:
    server = await anyio.to_thread.run_sync(partial(start_valkey, maxmemory="200mb"))
    with anyio.fail_after(HANG_S):
        async with open_redis(RedisSettings(url=server.connection_url)) as redis:
            async with open_replay(redis, run, SPEC, SETTINGS):
                pass
            await redis.config_set("maxmemory", "12mb")
            async with open_replay(redis, run, SPEC, SETTINGS):
                pass
            with pytest.raises(SettingsError, match="half of the maxmemory of 12582912"):
                async with open_replay(redis, f"{run}-other", SPEC, SETTINGS):
                    pass
