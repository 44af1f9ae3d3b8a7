import time
from collections.abc import Iterator

import anyio
import orjson
import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from borgagent.dqn.actor import Episode, Rollout
from borgagent.stages.learning import LearningProgress
from borgagent.telemetry import reporting
from borgagent.telemetry.reporting import Reporter
from borgagent.telemetry.state import AgentState
from borgcore.events.training import AgentReported, LearnerReported
from borgcore.service.health import Health
from tests.limits import HANG_S

from .fakes import FakePublisher


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def monotonic(self) -> float:
        return self.now_s

    def time(self) -> float:
        return 1_000.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    clock = Clock()
    monkeypatch.setattr(reporting, "time", clock)
    yield clock
    monkeypatch.undo()


class FakeRedis:
    """Takes reports; it hangs until ``back``, where there is one, and may be gone then."""

    def __init__(self) -> None:
        self.taken: list[int] = []
        self.gone = False
        self.back: anyio.Event | None = None

    async def hset(self, _key: str, _number: str, report: bytes) -> None:
        await anyio.lowlevel.checkpoint()
        if self.back is not None:
            await self.back.wait()
        if self.gone:
            raise RedisConnectionError
        self.taken.append(orjson.loads(report)["steps"])


@pytest.fixture
def redis() -> FakeRedis:
    return FakeRedis()


@pytest.fixture
def reporter(clock: Clock, redis: FakeRedis, state: AgentState, publisher: FakePublisher) -> Reporter:
    del clock
    return Reporter(redis, publisher, state)  # type: ignore[arg-type]  # fakes


def test_rates_are_over_the_time_since_the_report_before(reporter: Reporter, clock: Clock, state: AgentState) -> None:
    state.acting.count(Rollout(steps=100))
    clock.now_s += 2.0
    assert reporter.measure().steps_per_s == pytest.approx(50.0)
    state.acting.count(Rollout(steps=30, episodes=[Episode(1.0, 9, truncated=False, ended_at=3)]))
    state.acting.pause_s += 0.25
    clock.now_s += 1.0
    report = reporter.measure()
    assert (report.steps, report.episodes, report.recent[0][1]) == (130, 1, 1.0)
    assert report.steps_per_s == pytest.approx(30.0)
    assert report.pause_share == pytest.approx(0.25)


def test_a_report_has_what_the_agent_its_run_and_its_memory_have_come_to(
    reporter: Reporter, clock: Clock, state: AgentState
) -> None:
    episodes = [Episode(float(number), 9, truncated=False, ended_at=1) for number in range(20)]
    state.acting.count(Rollout(steps=400, episodes=episodes))
    state.acting.epsilon, state.acting.weights_version = 0.25, 7
    state.acting.weights_at_s = time.monotonic() - 1.5
    clock.now_s += 1.0
    report = reporter.measure()
    assert report.weights_age_s is not None
    assert 1.499 < report.weights_age_s < time.monotonic() - state.acting.weights_at_s + 0.001
    assert report.events == [
        AgentReported(
            agent=1,
            agents=3,
            steps=400,
            steps_per_s=400.0,
            episodes=20,
            return_20=9.5,
            epsilon=0.25,
            weights_version=7,
            weights_age_s=report.weights_age_s,
            pause_share=0.0,
            stale=7,
            corrupt=2,
            events_dropped=4,
        )
    ]


def learner_part(reporter: Reporter) -> LearnerReported:
    learner = reporter.measure().learner
    assert learner is not None
    return learner


def test_a_learners_first_report_counts_the_updates_made_here_and_no_earlier_ones(
    reporter: Reporter, clock: Clock, state: AgentState
) -> None:
    state.learning = LearningProgress(updates=1_000, resumed_at=1_000)
    clock.now_s += 1.0
    assert reporter.measure().learner is None  # there is no loss yet
    state.learning.updates, state.learning.loss, state.learning.mean_q = 1_040, 0.5, 0.25
    state.learning.wait_s = state.learning.limiter_s = 0.5
    clock.now_s += 2.0
    first = learner_part(reporter)
    assert (first.updates, first.loss, first.mean_q) == (1_040, 0.5, 0.25)
    assert first.updates_per_s == pytest.approx(20.0)
    assert first.samples_per_s == pytest.approx(20.0 * 64)
    assert first.wait_share == first.limiter_share == pytest.approx(0.25)
    state.learning.updates = 1_045
    clock.now_s += 1.0
    second = learner_part(reporter)
    assert second.updates_per_s == pytest.approx(5.0)
    assert second.wait_share == pytest.approx(0.0)


async def test_an_agent_is_ready_while_it_works_and_redis_takes_its_reports(
    reporter: Reporter, clock: Clock, state: AgentState, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reporting, "REPORT_PERIOD_S", 0.002)
    health = Health()
    health.ready = True  # whoever keeps it is to look

    async def becomes(ready: bool) -> None:
        while True:
            if health.ready is ready:
                return
            await anyio.sleep(0.001)

    with anyio.fail_after(HANG_S):
        async with anyio.create_task_group() as group:
            group.start_soon(reporter.keep_ready, health)
            await becomes(ready=False)  # it has not begun to play
            state.acting.count(Rollout(steps=1))
            await becomes(ready=True)
            clock.now_s += 3.5
            await becomes(ready=False)
            group.start_soon(reporter.publish)
            group.start_soon(reporter.write)
            await becomes(ready=True)
            group.cancel_scope.cancel()
    assert not health.ready  # it has ended


async def test_reports_are_published_at_their_own_pace_while_redis_hangs_and_then_the_newest_is_written(
    reporter: Reporter,
    redis: FakeRedis,
    state: AgentState,
    publisher: FakePublisher,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reporting, "REPORT_PERIOD_S", 0.01)
    redis.back = anyio.Event()
    with anyio.fail_after(HANG_S):
        async with anyio.create_task_group() as group:
            group.start_soon(reporter.publish)
            group.start_soon(reporter.write)
            for number in range(1, 6):
                state.acting.count(Rollout(steps=1))
                while len(publisher.published) < number:  # noqa: ASYNC110  # a fake has no event for it
                    await anyio.sleep(0.001)
            assert redis.taken == []
            redis.back.set()
            while len(redis.taken) < 2:  # noqa: ASYNC110  # see above
                await anyio.sleep(0.001)
            group.cancel_scope.cancel()
    assert redis.taken == [1, 5]
    steps = [event.steps for _, event in publisher.published if isinstance(event, AgentReported)]
    assert len(steps) >= 5
    assert (steps[0], steps[-1]) == (1, 5)


async def test_a_redis_that_is_gone_ends_the_writing(
    reporter: Reporter, redis: FakeRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reporting, "REPORT_PERIOD_S", 0.001)
    redis.gone = True

    async def report() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(reporter.publish)
            group.start_soon(reporter.write)

    with anyio.fail_after(HANG_S), pytest.raises(BaseExceptionGroup) as raised:
        await report()
    assert raised.group_contains(RedisConnectionError)
