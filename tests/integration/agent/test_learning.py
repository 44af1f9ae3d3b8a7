"""That learning works, through the whole path: agents, their memory in Redis, sampling, training, published weights."""

import pytest
from redis.asyncio import Redis

from borgcore.run.keys import RunKeys
from borgcore.run.reports import mean_return
from tests.limits import LONG_TEST_TIMEOUT_S

from .process import RUN, StartAgent, report_where, reports_of, within

UPDATES = 6_000  # of 64 transitions; about 1,000 suffice
RETURN = 0.9  # of 1.0; random play returns -0.6
EPISODES = 100


@pytest.mark.learning
@pytest.mark.timeout(LONG_TEST_TIMEOUT_S)
async def test_two_agents_learn_catch_from_one_memory(start_agent: StartAgent, redis: Redis) -> None:
    for _ in range(2):
        start_agent()

    async def learned() -> tuple[int, float] | None:
        reports = await reports_of(redis)
        updates = max((report.learner.updates for report in reports.values() if report.learner), default=0)
        mean = mean_return([episode for report in reports.values() for episode in report.recent], EPISODES)
        assert updates <= UPDATES, f"{updates} updates and a mean return of {mean} over the last {EPISODES} episodes"
        return (updates, mean) if len(reports) == 2 and mean is not None and mean >= RETURN else None

    updates, mean = await within(learned, limit_s=LONG_TEST_TIMEOUT_S)
    print(f"mean return {mean:.2f} after {updates} updates")  # noqa: T201  # what the margin is; shown on failure or by -s


@pytest.mark.timeout(LONG_TEST_TIMEOUT_S)
async def test_once_alpha_has_fallen_to_nothing_learning_goes_on_and_priorities_rest(
    start_agent: StartAgent, redis: Redis
) -> None:
    start_agent("--replay.alpha-end", "0", "--learner.anneal-updates", "100")
    fallen = await report_where(redis, 1, lambda report: report.learner is not None and report.learner.updates > 150)
    assert fallen.learner is not None
    updates = fallen.learner.updates
    before = {slot: score async for slot, score in redis.zscan_iter(RunKeys(RUN).priorities)}
    await report_where(redis, 1, lambda report: report.learner is not None and report.learner.updates > updates + 100)
    after = {slot: score async for slot, score in redis.zscan_iter(RunKeys(RUN).priorities)}
    assert len(after) > len(before) > 500
    assert {slot: after[slot] for slot in before} == before
