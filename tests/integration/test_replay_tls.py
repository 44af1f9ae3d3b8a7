import anyio
import numpy as np

from borgcore.connection.client import open_redis
from borgcore.replay import ReplaySettings, ReplaySpec, Transition, open_replay
from borgcore.settings.sections import RedisSettings
from tests.limits import HANG_S

SPEC = ReplaySpec("pong", stack=4, height=84, width=84, n=3, actions=6, gamma=0.99)
SETTINGS = ReplaySettings(capacity=1_000, min_size=10, samples_per_insert=0.0, seed=7)


async def test_megabytes_of_transitions_pass_through_tls_whole(tls_settings: RedisSettings, run: str) -> None:
    rng = np.random.default_rng(0)
    pushed = [
        Transition(rng.integers(0, 256, (7, 84, 84), np.uint8), i % 6, float(i), 0.5, 3, priority=1.0)
        for i in range(100)
    ]
    with anyio.fail_after(HANG_S):
        async with open_redis(tls_settings) as redis, open_replay(redis, run, SPEC, SETTINGS) as replay:
            assert await replay.push(pushed) == 99  # five megabytes: many records of TLS
            batch = await replay.sample(128)
            assert await replay.reprioritise(batch.ids_B, np.ones(128)) == 128
            assert (await replay.stats()).size == 100
    assert replay.corrupt == 0
    for row, found in enumerate(batch.ids_B):
        assert np.array_equal(batch.obs_BSHW[row], pushed[found].frames_FHW[:4])
        assert np.array_equal(batch.next_obs_BSHW[row], pushed[found].frames_FHW[-4:])
