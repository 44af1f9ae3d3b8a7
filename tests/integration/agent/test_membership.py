"""Who plays and who learns among several agents; real processes of Catch."""

from pathlib import Path

import pytest
from redis.asyncio import Redis

from borgcore.run.keys import RunKeys
from borgcore.run.reports import AgentReport
from tests.limits import LONG_TEST_TIMEOUT_S

from .process import RUN, StartAgent, report_where, reports_of, within

KEYS = RunKeys(RUN)
pytestmark = pytest.mark.timeout(LONG_TEST_TIMEOUT_S)  # each start imports torch, on as few cores as there are


def learns(report: AgentReport) -> bool:
    return report.learner is not None and report.learner.updates > 0


async def version_of(redis: Redis) -> int:
    return int(await redis.hget(KEYS.weights(), "version") or 0)


async def test_two_agents_sort_themselves_out_and_where_the_learner_is_killed_the_other_goes_on(
    start_agent: StartAgent, redis: Redis
) -> None:
    agents = [start_agent() for _ in range(2)]
    by_pid = {agent.pid: agent for agent in agents}
    first = await report_where(redis, 1, learns)
    second = await report_where(redis, 2, lambda report: report.weights_version > 20)
    assert {first.pid, second.pid} == set(by_pid)
    assert second.learner is None

    by_pid[first.pid].kill()
    version = await version_of(redis)
    report = await report_where(redis, 1, lambda report: report.pid == second.pid and learns(report))
    assert report.learner is not None
    assert report.learner.updates >= version - 1
    later = await report_where(redis, 1, lambda report: report.weights_version > version + 20)
    assert later.steps >= second.steps  # the same process, which went on playing
    assert set(await reports_of(redis)) == {1}
    assert "learner_elected" in await by_pid[second.pid].output()


async def test_the_agent_that_learns_leaves_playing_to_another_that_keeps_up(
    start_agent: StartAgent, redis: Redis
) -> None:
    for _ in range(2):
        start_agent()
    seen = (await report_where(redis, 2, lambda report: report.weights_version > 20)).weights_version

    async def leaves_playing() -> bool:  # once the machine lets the other keep up for a while
        nonlocal seen
        before, until = await reports_of(redis), seen + 1_000
        seen = (await report_where(redis, 2, lambda report: report.weights_version > until)).weights_version
        after = await reports_of(redis)
        learner, other = (after[number].steps - before[number].steps for number in (1, 2))
        return other > 5 * learner

    await within(leaves_playing)


async def test_a_pure_actor_never_learns_though_nobody_else_does(start_agent: StartAgent, redis: Redis) -> None:
    start_agent("--learn", "never")

    async def paused() -> bool:  # the limiter holds it back: it is far ahead of any learner
        return (await report_where(redis, 2, lambda _: True)).pause_share > 0.9

    await within(paused)
    report = (await reports_of(redis))[2]
    assert report.learner is None
    assert report.weights_version == 0
    assert not await redis.exists(KEYS.weights(), KEYS.lease(1))


async def test_a_pure_learner_plays_nothing_and_teaches_a_pure_actor(start_agent: StartAgent, redis: Redis) -> None:
    start_agent("--learn", "only")
    start_agent("--learn", "never")
    actor = await report_where(redis, 2, lambda report: report.weights_version > 20)
    learner = await report_where(redis, 1, learns)
    assert actor.learner is None
    assert (learner.steps, learner.episodes, learner.recent) == (0, 0, ())


async def test_a_pure_learner_that_waits_for_its_number_ends_when_it_is_told_to(
    start_agent: StartAgent, redis: Redis
) -> None:
    await redis.set(KEYS.lease(1), "another's")
    agent = start_agent("--learn", "only")
    await agent.says("learner_number_taken")
    agent.terminate()
    assert await agent.ended() == 0
    assert await redis.get(KEYS.lease(1)) == b"another's"


async def test_private_agents_learn_networks_of_their_own_from_one_memory(
    start_agent: StartAgent, redis: Redis, tmp_path: Path
) -> None:
    agents = [start_agent("--learn", "private") for _ in range(2)]
    for number in (1, 2):
        await report_where(redis, number, lambda report: learns(report) and report.weights_version > 5)
    assert await redis.exists(KEYS.weights(1), KEYS.weights(2)) == 2
    assert not await redis.exists(KEYS.weights())
    one, other = await redis.hget(KEYS.weights(1), "data"), await redis.hget(KEYS.weights(2), "data")
    assert one != other
    for agent in agents:
        agent.terminate()
    assert [await agent.ended() for agent in agents] == [0, 0]
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["1", "2"]


async def test_single_agents_do_what_their_table_says(start_agent: StartAgent, redis: Redis, tmp_path: Path) -> None:
    config = tmp_path / "borg.toml"
    config.write_text("[agents.2]\nepsilon = 0.25\nenvs = 3\n[agents.3]\nepsilon = 0.75\n")
    start_agent("--config", str(config))
    await report_where(redis, 1, lambda report: report.steps > 0)
    start_agent("--config", str(config))
    assert (await report_where(redis, 2, lambda report: report.steps > 0)).epsilon == 0.25
    assert (await reports_of(redis))[1].epsilon not in (0.25, 0.75)
