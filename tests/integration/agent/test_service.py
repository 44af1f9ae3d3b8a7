"""What one agent does at its start and its end, and what it refuses; real processes of Catch."""

from collections.abc import Callable
from pathlib import Path

import pytest
from redis.asyncio import Redis

from borgagent.dqn.presets import PRESETS
from borgcore.events.training import RunEnded
from borgcore.replay import ReplaySettings, ReplaySpec, open_replay
from borgcore.run.keys import RunKeys
from tests.limits import LONG_TEST_TIMEOUT_S
from tests.valkey import ValkeyServer

from .events import check_event, read_stream
from .process import RUN, AgentProcess, StartAgent, report_where, reports_of

KEYS = RunKeys(RUN)
pytestmark = pytest.mark.timeout(LONG_TEST_TIMEOUT_S)  # each start imports torch, on as few cores as there are


def checkpoints(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "checkpoints").iterdir())


async def refused(agent: AgentProcess, code: int) -> str:
    """Wait for an agent that ends with that code and says one line."""
    assert await agent.ended() == code
    output = await agent.output()
    assert output.startswith("borg-agent: ")
    assert output.count("\n") == 1
    return output


async def test_sigterm_drains_writes_a_checkpoint_and_gives_the_number_back_and_a_restart_goes_on(
    start_agent: StartAgent, redis: Redis, tmp_path: Path
) -> None:
    first = start_agent()
    await report_where(redis, 1, lambda report: report.learner is not None and report.learner.updates > 50)
    first.terminate()
    assert await first.ended() == 0
    assert not await redis.exists(KEYS.lease(1))
    assert await reports_of(redis) == {}
    updates = int(checkpoints(tmp_path)[-1])
    assert updates > 50
    version = int(await redis.hget(KEYS.weights(), "version") or 0)
    assert version == updates + 1
    inserted = int(await redis.hget(KEYS.meta, "inserted") or 0)
    assert inserted >= PRESETS["tiny"]["replay"]["min_size"]

    second = start_agent()
    report = await report_where(redis, 1, lambda report: report.learner is not None)
    assert report.learner is not None
    assert report.learner.updates >= updates
    await report_where(redis, 1, lambda report: report.learner is not None and report.learner.updates > updates + 20)
    await report_where(redis, 1, lambda report: report.weights_version > version)  # it plays with what it has learned
    assert f'"updates":{updates}' in await second.output()
    assert int(await redis.hget(KEYS.meta, "inserted") or 0) > inserted


async def test_published_weights_newer_than_the_checkpoint_are_gone_on_from(
    start_agent: StartAgent, redis: Redis
) -> None:
    first = start_agent("--learner.checkpoint-period-s", "10000")  # none before its end
    await report_where(redis, 1, lambda report: report.weights_version > 20)
    first.kill()
    await first.ended()
    version = int(await redis.hget(KEYS.weights(), "version") or 0)
    second = start_agent()
    await report_where(redis, 1, lambda report: report.pid == second.pid and report.learner is not None)
    assert f'"updates":{version - 1}' in await second.output()
    await second.says("weights_taken_over")


async def test_another_game_on_the_same_run_is_refused_with_both(start_agent: StartAgent, redis: Redis) -> None:
    pong = ReplaySpec("pong", 4, 42, 42, 3, 3, 0.99)
    async with open_replay(redis, RUN, pong, ReplaySettings(capacity=20_000)):
        text = await refused(start_agent(), code=4)
    assert "game='pong'" in text
    assert "game='catch'" in text
    assert not await redis.exists(KEYS.lease(1))


async def test_a_checkpoint_of_another_game_is_refused(start_agent: StartAgent, tmp_path: Path) -> None:
    first = start_agent()
    await first.says("learner_started")
    first.terminate()
    assert await first.ended() == 0
    assert checkpoints(tmp_path)
    other = start_agent("--run", "other", "--actor.gamma", "0.5", "--replay.min-size", "200")
    assert await other.ended() == 4
    last = (await other.output()).splitlines()[-1]
    assert last.startswith("borg-agent: checkpoint ")
    assert "gamma=0.99" in last
    assert "gamma=0.5" in last


@pytest.mark.parametrize("given", ["wr0ng", None])
async def test_a_wrong_or_missing_password_is_refused_and_not_shown(
    start_agent: StartAgent, redis: Redis, given: str | None
) -> None:
    await redis.config_set("requirepass", "hunter2")
    agent = start_agent(**({} if given is None else {"BORG_REDIS_PASSWORD": given}))
    text = await refused(agent, code=3)
    assert "password" in text
    assert "hunter2" not in text
    assert "wr0ng" not in text


async def test_an_absent_server_is_named(start_agent: StartAgent, tmp_path: Path) -> None:
    agent = start_agent("--redis-timeout-s", "1", url=f"unix://{tmp_path / 'absent'}")
    assert await agent.ended() == 3
    last = (await agent.output()).splitlines()[-1]
    assert last.startswith(f"borg-agent: Redis at {tmp_path / 'absent'} cannot be reached: ")
    assert "Traceback" not in await agent.output()


async def test_a_server_that_dies_is_one_line_not_a_traceback(start_agent: StartAgent, redis: Redis) -> None:
    agent = start_agent("--redis-outage-s", "1", "--replay.push-timeout-s", "1", "--replay.sample-timeout-s", "1")
    await report_where(redis, 1, lambda report: report.learner is not None)
    await redis.shutdown(nosave=True)
    assert await agent.ended() == 3
    output = await agent.output()
    assert output.splitlines()[-1].startswith("borg-agent: Redis at ")
    assert "Traceback" not in output
    assert '"exception"' not in output


async def test_a_mistaken_option_is_one_line(start_agent: StartAgent) -> None:
    assert await refused(start_agent("--learner.batch", "3"), code=2) == (
        "borg-agent: --learner.batch is no option; the nearest is --learner.batch-size; nothing was started\n"
    )


async def test_an_unknown_game_is_one_line(start_agent: StartAgent) -> None:
    text = await refused(start_agent("--game", "pnog", "--preset", "small"), code=2)
    assert text == "borg-agent: game 'pnog' is unknown; the nearest names are pong; nothing was started\n"


async def test_corrupt_published_weights_do_not_keep_a_learner_from_starting(
    start_agent: StartAgent, redis: Redis
) -> None:
    await redis.hset(KEYS.weights(), mapping={"version": 900, "data": b"\xff" * 100})
    agent = start_agent()
    await report_where(redis, 1, lambda report: report.learner is not None and report.learner.updates > 5)
    await agent.says("weights_refused")


async def test_a_lease_that_another_has_taken_ends_the_agent(start_agent: StartAgent, redis: Redis) -> None:
    agent = start_agent()
    await report_where(redis, 1, lambda _: True)
    await redis.set(KEYS.lease(1), "another's")
    assert await agent.ended() == 1
    reason = (
        "agent 1 of run t was silent for over 15 s and another has its number now; "
        "this process ends, a new one can take its place"
    )
    assert (await agent.output()).splitlines()[-1] == f"borg-agent: {reason}"
    told = check_event((await read_stream(redis))[-1])
    assert isinstance(told, RunEnded)
    assert told.reason == reason
    assert await redis.get(KEYS.lease(1)) == b"another's"


async def test_a_lease_that_expired_is_claimed_again_where_nobody_has_taken_it(
    start_agent: StartAgent, redis: Redis
) -> None:
    agent = start_agent()
    await report_where(redis, 1, lambda _: True)
    await redis.delete(KEYS.lease(1))
    await agent.says("number_reclaimed")
    assert await redis.exists(KEYS.lease(1))


async def test_an_agent_outlasts_a_restart_of_its_server_and_goes_on(
    start_agent: StartAgent, start_valkey: Callable[..., ValkeyServer], short_folder: Path
) -> None:
    server = start_valkey(short_folder / "r", appendonly="yes", appendfsync="always")
    url = f"unix://{short_folder / 'r'}"
    agent = start_agent(url=url)
    client = Redis.from_url(url)
    await client.ping()
    before = await report_where(client, 1, lambda report: report.learner is not None and report.learner.updates > 20)
    assert before.learner is not None
    updates = before.learner.updates
    server.stop()
    await agent.says("redis_lost")
    server.start()
    await report_where(client, 1, lambda report: report.learner is not None and report.learner.updates > updates + 100)
    await client.aclose()
    agent.terminate()
    assert await agent.ended() == 0
