from collections.abc import AsyncIterator
from dataclasses import replace

import anyio
import numpy as np
import pytest
from numpy.typing import NDArray
from redis.asyncio import Redis

from borgcore.connection.client import open_redis
from borgcore.errors import CorruptDataError, MismatchError, ReplayTooSmallError, SettingsError
from borgcore.replay import Batch, Replay, ReplaySettings, ReplaySpec, Transition, open_replay
from borgcore.run.keys import RunKeys
from borgcore.settings.sections import RedisSettings
from tests.limits import HANG_S

SPEC = ReplaySpec("pong", stack=4, height=8, width=6, n=3, actions=6, gamma=0.99)
SETTINGS = ReplaySettings(capacity=100, min_size=10, samples_per_insert=0.0, seed=7, limiter_timeout_s=0.05)


def transitions(count: int, k: int = 3, first: int = 0) -> list[Transition]:
    rng = np.random.default_rng(first)
    shape = (SPEC.frames(k), SPEC.height, SPEC.width)
    return [
        Transition(rng.integers(0, 256, shape, np.uint8), i % 6, float(i), 0.5, k, priority=1.0 + i)
        for i in range(first, first + count)
    ]


@pytest.fixture
async def redis(redis_settings: RedisSettings) -> AsyncIterator[Redis]:
    async with open_redis(redis_settings) as redis:
        yield redis


@pytest.fixture
async def replay(redis: Redis, run: str) -> AsyncIterator[Replay]:
    async with open_replay(redis, run, SPEC, SETTINGS) as replay:
        yield replay


async def test_samples_are_the_transitions_that_were_pushed(replay: Replay) -> None:
    pushed = transitions(20) + transitions(20, k=1, first=20) + transitions(10, k=2, first=40)
    with anyio.fail_after(HANG_S):
        assert await replay.push(pushed) == 49
        batch = await replay.sample(64)
    for row, found in enumerate(batch.ids_B):
        wanted = pushed[found]
        assert np.array_equal(batch.obs_BSHW[row], wanted.frames_FHW[:4])
        assert np.array_equal(batch.next_obs_BSHW[row], wanted.frames_FHW[-4:])
        assert (batch.action_B[row], batch.reward_B[row], batch.discount_B[row]) == (wanted.action, wanted.reward, 0.5)
    assert batch.weight_B.max() == 1.0
    assert batch.weight_B.min() > 0.0


async def test_the_oldest_transition_is_overwritten_when_the_memory_is_full(replay: Replay) -> None:
    with anyio.fail_after(HANG_S):
        await replay.push(transitions(150))
        assert await replay.push(transitions(100, first=150)) == 249
        batch = await replay.sample(100)
        stats = await replay.stats()
    assert batch.ids_B.min() >= 150
    assert np.array_equal(batch.reward_B, batch.ids_B)
    assert (stats.size, stats.capacity, stats.inserted, stats.sampled) == (100, 100, 250, 100)
    assert stats.bytes > 100 * SPEC.frames(3) * 48
    assert stats.used_memory > stats.bytes


async def test_a_push_larger_than_one_call_arrives_whole_and_in_order(redis: Redis, run: str) -> None:
    settings = SETTINGS.model_copy(update={"capacity": 5_000})
    with anyio.fail_after(HANG_S):
        async with open_replay(redis, run, SPEC, settings) as replay:
            assert await replay.push(transitions(2_345)) == 2_344
            batch = await replay.sample(2_000)
    assert np.array_equal(batch.reward_B, batch.ids_B)


async def test_pushing_nothing_stores_nothing(replay: Replay) -> None:
    with anyio.fail_after(HANG_S):
        assert await replay.push([]) == -1
        assert (await replay.stats()).size == 0


async def test_the_same_seed_and_memory_give_the_same_sample(redis: Redis, run: str) -> None:
    batches = []
    with anyio.fail_after(HANG_S):
        async with open_replay(redis, run, SPEC, SETTINGS) as filler:
            await filler.push(transitions(100))
        for seed in (7, 7, 8):
            settings = SETTINGS.model_copy(update={"seed": seed})
            async with open_replay(redis, run, SPEC, settings) as replay:
                batches.append(await replay.sample(32))
    assert np.array_equal(batches[0].ids_B, batches[1].ids_B)
    assert np.array_equal(batches[0].weight_B, batches[1].weight_B)
    assert not np.array_equal(batches[0].ids_B, batches[2].ids_B)


def chi_squared(ids: NDArray[np.int64], expected: NDArray[np.float64]) -> float:
    observed = np.bincount(ids, minlength=len(expected))
    return float(((observed - expected) ** 2 / expected).sum())


@pytest.mark.parametrize("alpha", [0.0, 0.7])
async def test_equal_priorities_are_drawn_uniformly(redis: Redis, run: str, alpha: float) -> None:
    settings = SETTINGS.model_copy(update={"alpha": alpha, "min_size": 100})
    draws = np.zeros(0, np.int64)
    with anyio.fail_after(HANG_S):
        async with open_replay(redis, run, SPEC, settings) as replay:
            messages = replay.encode(transitions(100))
            for _ in range(30):
                await replay.push_encoded(messages, np.ones(100))  # new jitter, so that no slot keeps its rank
                draws = np.append(draws, (await replay.sample(100)).ids_B % 100)
    # 99 degrees of freedom: above 148.2 once in a thousand; stratified draws spread less than independent ones
    assert chi_squared(draws, np.full(100, 30.0)) < 148.2


@pytest.mark.parametrize(
    ("alpha", "alpha_end", "progress"),
    [(0.5, None, 0.5), (0.7, 0.0, 0.0), (1.0, None, 1.0), (1.5, 0.1, 0.0), (1.15, 0.35, 0.1875)],
)
async def test_ranks_are_drawn_by_the_power_law_and_weighted_by_its_inverse(
    redis: Redis, run: str, alpha: float, alpha_end: float | None, progress: float
) -> None:
    settings = SETTINGS.model_copy(update={"alpha": alpha, "alpha_end": alpha_end, "beta_start": 1.0})
    with anyio.fail_after(HANG_S):
        async with open_replay(redis, run, SPEC, settings) as replay:
            await replay.push([replace(one, priority=2.0**-i) for i, one in enumerate(transitions(20))])
            batches = [await replay.sample(500, progress=progress) for _ in range(4)]
    alpha, _ = settings.exponents(progress)
    power = 1.0 - alpha
    edges = np.log(np.arange(1, 22)) if abs(power) < 1e-9 else (np.arange(1, 22) ** power - 1) / power
    chance = np.diff(edges) / edges[-1]
    ids = np.concatenate([batch.ids_B for batch in batches])
    assert chi_squared(ids, chance * 2_000) < 43.8  # 19 degrees of freedom, once in a thousand
    wanted = chance[batches[0].ids_B] ** -1.0
    assert batches[0].weight_B == pytest.approx(wanted / wanted.max(), rel=1e-5)


async def test_once_alpha_has_fallen_to_nothing_priorities_do_not_count(redis: Redis, run: str) -> None:
    settings = SETTINGS.model_copy(update={"alpha_end": 0.0})
    with anyio.fail_after(HANG_S):
        async with open_replay(redis, run, SPEC, settings) as replay:
            await replay.push([replace(one, priority=2.0**-i) for i, one in enumerate(transitions(20))])
            batches = [await replay.sample(500, progress=1.0) for _ in range(4)]
    assert chi_squared(np.concatenate([batch.ids_B for batch in batches]), np.full(20, 100.0)) < 43.8
    assert all((batch.weight_B == 1.0).all() for batch in batches)


async def test_new_priorities_decide_what_is_drawn(replay: Replay) -> None:
    with anyio.fail_after(HANG_S):
        await replay.push(transitions(50))
        await replay.reprioritise(np.arange(50), np.where(np.arange(50) == 17, 100.0, 1e-3))
        batch = await replay.sample(100)
    ids, counts = np.unique(batch.ids_B, return_counts=True)
    assert ids[counts.argmax()] == 17


async def test_ids_overwritten_or_never_issued_are_ignored_and_counted(replay: Replay) -> None:
    with anyio.fail_after(HANG_S):
        await replay.push(transitions(130))
        assert await replay.reprioritise(np.array([-1, 0, 29, 30, 129, 130, 2**52]), np.ones(7)) == 2
    assert replay.stale == 5


async def test_td_errors_that_are_not_finite_change_no_priority(replay: Replay) -> None:
    with anyio.fail_after(HANG_S):
        await replay.push(transitions(20))
        with pytest.raises(CorruptDataError, match="1 of 2 are not finite"):
            await replay.reprioritise(np.array([1, 2]), np.array([1.0, np.nan]))


async def test_a_batch_is_filled_in_place(replay: Replay) -> None:
    out = Batch.empty(SPEC, 16)
    with anyio.fail_after(HANG_S):
        await replay.push(transitions(20))
        assert await replay.sample(16, out) is out
        with pytest.raises(SettingsError, match="replay batch: 16 rows"):
            await replay.sample(17, out)


async def test_too_few_transitions_are_an_error_that_names_both_numbers(replay: Replay) -> None:
    with anyio.fail_after(HANG_S):
        await replay.push(transitions(9))
        with pytest.raises(ReplayTooSmallError, match=r"9 transitions are stored after 0.05 s, at least 10 are needed"):
            await replay.sample(4)


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ((replace(SPEC, n=5), SETTINGS), r"n=3.*this agent has .*n=5.* was refused"),
        ((replace(SPEC, game="breakout"), SETTINGS), r"game='pong'.*game='breakout'"),
        ((SPEC, SETTINGS.model_copy(update={"capacity": 99})), "has capacity 100; this agent's is 99"),
        ((SPEC, SETTINGS.model_copy(update={"alpha": 0.0})), r"by priority .*would sample uniform"),
    ],
)
async def test_an_agent_that_differs_from_the_memory_is_refused_naming_both(
    replay: Replay, redis: Redis, run: str, changed: tuple[ReplaySpec, ReplaySettings], text: str
) -> None:
    assert replay.spec == SPEC
    with anyio.fail_after(HANG_S), pytest.raises(MismatchError, match=text):
        async with open_replay(redis, run, *changed):
            pass


async def test_agents_that_start_at_once_share_one_memory(redis: Redis, run: str) -> None:
    async def join(number: int) -> None:
        async with open_replay(redis, run, SPEC, SETTINGS) as replay:
            await replay.push(transitions(10, first=10 * number))

    with anyio.fail_after(HANG_S):
        await redis.function_flush()
        async with anyio.create_task_group() as group:
            for number in range(8):
                group.start_soon(join, number)
        async with open_replay(redis, run, SPEC, SETTINGS) as replay:
            assert (await replay.stats()).inserted == 80


async def test_corrupt_samples_are_replaced_by_good_ones_and_counted(replay: Replay, redis: Redis, run: str) -> None:
    keys = RunKeys(run)
    with anyio.fail_after(HANG_S):
        await replay.push(transitions(30))
        stored = await redis.hget(keys.slots, "29")
        assert isinstance(stored, bytes)
        bad = {29: stored[:-3], 28: b"", 27: bytes(10_000), 26: b"\xff" * 64}  # the highest priorities
        for slot, message in bad.items():
            await redis.hset(keys.slots, str(slot), message)
        await redis.hdel(keys.slots, "25")
        batch = await replay.sample(64)
        lowest = await redis.zrange(keys.priorities, 0, 4)
        again = await replay.sample(8)
    assert replay.corrupt > 5
    assert np.array_equal(batch.reward_B, batch.ids_B)
    assert batch.ids_B.max() == 24
    assert set(lowest) == {b"25", b"26", b"27", b"28", b"29"}
    assert again.ids_B.max() == 24


async def test_a_memory_without_one_good_sample_is_an_error(replay: Replay, redis: Redis, run: str) -> None:
    with anyio.fail_after(HANG_S):
        await replay.push(transitions(10))
        for slot in range(10):
            await redis.hset(RunKeys(run).slots, str(slot), b"no transition")
        with pytest.raises(CorruptDataError, match="not one of 8 transitions decodes"):
            await replay.sample(8)


async def test_a_uniform_memory_keeps_no_priorities(redis: Redis, run: str) -> None:
    with anyio.fail_after(HANG_S):
        async with open_replay(redis, run, SPEC, SETTINGS.model_copy(update={"alpha": 0.0})) as replay:
            await replay.push(transitions(50))
            assert await replay.reprioritise(np.arange(5), np.ones(5)) == 5
            batch = await replay.sample(20)
        assert await redis.exists(RunKeys(run).priorities) == 0
    assert np.array_equal(batch.weight_B, np.ones(20))


async def test_transitions_that_do_not_fit_the_spec_are_refused(replay: Replay) -> None:
    wrong = Transition(np.zeros((7, 84, 84), np.uint8), 0, 0.0, 0.0, 3, 1.0)
    with anyio.fail_after(HANG_S):
        with pytest.raises(SettingsError, match=r"expected k 1..3 and uint8 \(7, 8, 6\)"):
            await replay.push([*transitions(200), wrong])
        assert (await replay.stats()).inserted == 0
