from collections.abc import AsyncIterator

import anyio
import numpy as np
import pytest
from redis.asyncio import Redis

from borgcore.connection.client import open_redis
from borgcore.errors import SettingsError
from borgcore.replay import Replay, ReplaySettings, ReplaySpec, Transition, open_replay
from borgcore.settings.sections import RedisSettings
from tests.limits import HANG_S

SPEC = ReplaySpec("pong", stack=4, height=8, width=6, n=3, actions=6, gamma=0.99)
# 8 samples per insert from 10 transitions on, 20 samples either way: 80 - 20 <= 8 * inserted - sampled <= 80 + 20
SETTINGS = ReplaySettings(
    capacity=100, min_size=10, samples_per_insert=8.0, error_buffer=20.0, limiter_timeout_s=0.05, limiter_poll_s=0.005
)
PATIENT = SETTINGS.model_copy(update={"limiter_timeout_s": HANG_S})


def transitions(count: int) -> list[Transition]:
    return [Transition(np.zeros((7, 8, 6), np.uint8), 0, 0.0, 0.5, 3, priority=1.0) for _ in range(count)]


@pytest.fixture
async def redis(redis_settings: RedisSettings) -> AsyncIterator[Redis]:
    async with open_redis(redis_settings) as redis:
        yield redis


@pytest.fixture
async def actor(redis: Redis, run: str) -> AsyncIterator[Replay]:
    async with open_replay(redis, run, SPEC, SETTINGS) as replay:
        yield replay


@pytest.fixture
async def learner(redis: Redis, run: str) -> AsyncIterator[Replay]:
    async with open_replay(redis, run, SPEC, SETTINGS) as replay:
        yield replay


async def test_a_learner_too_far_ahead_is_told_to_wait(actor: Replay, learner: Replay) -> None:
    with anyio.fail_after(HANG_S):
        await actor.push(transitions(10))
        await learner.sample(20)
        with pytest.raises(TimeoutError, match="20 samples of 10 inserts, 8 per insert are expected"):
            await learner.sample(1)
        await actor.push(transitions(1))
        await learner.sample(8)
        with pytest.raises(TimeoutError, match="the rate limiter allowed none"):
            await learner.sample(1)
    assert learner.sample_wait_s >= 0.1
    assert not learner.sample_waiting


async def test_actors_too_far_ahead_are_told_to_wait(actor: Replay, learner: Replay) -> None:
    with anyio.fail_after(HANG_S):
        await actor.push(transitions(12))
        assert await actor.wait_to_insert()
        assert actor.insert_wait_s == 0.0
        await actor.push(transitions(1))  # 104 > 100
        assert not await actor.wait_to_insert()
        assert actor.insert_wait_s >= 0.05
        await learner.sample(4)
        assert await actor.wait_to_insert()


async def test_an_actor_that_gives_way_acts_only_where_the_others_leave_the_learner_short(
    actor: Replay, learner: Replay
) -> None:
    with anyio.fail_after(HANG_S):
        await actor.push(transitions(10))
        assert await actor.wait_to_insert(gives_way=True)
        await actor.push(transitions(1))  # 88 > 80, the middle
        assert not await actor.wait_to_insert(gives_way=True)
        assert await actor.wait_to_insert()
        await learner.sample(8)
        assert await actor.wait_to_insert(gives_way=True)


async def test_a_waiting_learner_goes_on_as_soon_as_an_actor_of_another_client_has_pushed(
    actor: Replay, redis: Redis, run: str
) -> None:
    with anyio.fail_after(HANG_S):
        async with open_replay(redis, run, SPEC, PATIENT) as learner, anyio.create_task_group() as group:
            group.start_soon(learner.sample, 4)
            while not learner.sample_waiting:
                await anyio.lowlevel.checkpoint()
            assert learner.sampled == 0
            await actor.push(transitions(10))
    assert learner.sampled == 4
    assert 0.0 < learner.sample_wait_s < PATIENT.limiter_timeout_s


async def test_a_waiting_actor_goes_on_as_soon_as_the_learner_of_another_client_has_sampled(
    learner: Replay, redis: Redis, run: str
) -> None:
    with anyio.fail_after(HANG_S):
        async with open_replay(redis, run, SPEC, PATIENT) as actor, anyio.create_task_group() as group:
            await actor.push(transitions(20))
            group.start_soon(actor.wait_to_insert)
            while not actor.insert_waiting:
                await anyio.lowlevel.checkpoint()
            for _ in range(3):
                await learner.sample(30)
    assert not actor.insert_waiting
    assert 0.0 < actor.insert_wait_s < PATIENT.limiter_timeout_s


async def test_two_clients_share_one_ratio(redis: Redis, run: str) -> None:
    async def act(replay: Replay) -> None:
        while replay.inserted < 200:
            assert await replay.wait_to_insert()
            await replay.push(transitions(1))

    async def learn(replay: Replay) -> None:
        while replay.sampled < 1_520:
            await replay.sample(4)
            difference = 8 * replay.inserted - replay.sampled
            # an actor may push between another's question and its push
            assert 60 <= difference + 4 <= 100 + 4 + 2 * 8

    with anyio.fail_after(HANG_S):
        async with (
            open_replay(redis, run, SPEC, PATIENT) as one,
            open_replay(redis, run, SPEC, PATIENT) as other,
            anyio.create_task_group() as group,
        ):
            for replay in (one, other):
                group.start_soon(act, replay)
                group.start_soon(learn, replay)


async def test_waits_for_the_limiter_take_no_randomness(redis: Redis, run: str) -> None:
    ids = []
    with anyio.fail_after(HANG_S):
        for waits in (False, True):
            settings = PATIENT.model_copy(update={"seed": 3})
            async with (
                open_replay(redis, f"{run}-{waits}", SPEC, settings) as replay,
                anyio.create_task_group() as group,
            ):

                async def sample(replay: Replay = replay) -> None:
                    ids.append((await replay.sample(16)).ids_B)

                if waits:
                    group.start_soon(sample)
                    while not replay.sample_waiting:
                        await anyio.lowlevel.checkpoint()
                await replay.push_encoded(replay.encode(transitions(10)), np.arange(10))
                if not waits:
                    group.start_soon(sample)
    assert np.array_equal(ids[0], ids[1])


async def test_a_batch_too_large_for_the_error_buffer_is_refused(learner: Replay) -> None:
    with anyio.fail_after(HANG_S), pytest.raises(SettingsError, match="error_buffer: 20 samples"):
        await learner.sample(64)
