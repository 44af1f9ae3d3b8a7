"""A server or a disk that is full or may not be written to; real processes of Catch."""

import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from anyio import to_thread
from redis.asyncio import Redis

from borgcore.run.keys import RunKeys
from tests.limits import LONG_TEST_TIMEOUT_S

from .process import RUN, AgentProcess, StartAgent, report_where

OFTEN = ("--learner.checkpoint-period-s", "0.5")
pytestmark = pytest.mark.timeout(LONG_TEST_TIMEOUT_S)  # each start imports torch, on as few cores as there are


async def trains_on(redis: Redis, updates: int = 0) -> int:
    """Wait for 20 updates more; their count."""
    report = await report_where(redis, 1, lambda one: one.learner is not None and one.learner.updates > updates + 20)
    assert report.learner is not None
    return report.learner.updates


async def ends_well(agent: AgentProcess) -> None:
    agent.terminate()
    assert await agent.ended() == 0
    assert "Traceback" not in await agent.output()


async def test_a_server_that_runs_out_of_memory_is_one_line(start_agent: StartAgent, redis: Redis) -> None:
    agent = start_agent()
    await trains_on(redis)
    await redis.config_set("maxmemory", "1mb")  # less than is in use, and the policy is to evict nothing
    line = await agent.last_line(code=3)
    assert line.startswith("borg-agent: Redis at ")
    assert " is out of memory: " in line
    assert line.endswith("Raise its maxmemory or lower the replay capacity.")
    assert int(await redis.hget(RunKeys(RUN).meta, "inserted") or 0) > 0  # what it had stored stays


async def test_a_read_only_replica_is_refused_by_name(
    start_agent: StartAgent, start_redis: Callable[..., Any], redis: Redis
) -> None:
    primary = await to_thread.run_sync(start_redis)
    replica = await to_thread.run_sync(lambda: start_redis(replicaof=f"127.0.0.1 {primary.port}"))
    agent = start_agent(url=replica.connection_url)
    assert await agent.last_line(code=3) == (
        f"borg-agent: Redis at 127.0.0.1:{replica.port} is a read-only replica; the address of its primary is expected"
    )
    assert await redis.dbsize() == 0


async def test_a_server_that_becomes_a_replica_is_one_line(start_agent: StartAgent, redis: Redis) -> None:
    agent = start_agent()
    await trains_on(redis)
    await redis.replicaof("127.0.0.1", 1)
    line = await agent.last_line(code=3)
    assert line.startswith("borg-agent: Redis at ")
    assert line.endswith(" is a read-only replica; the address of its primary is expected")


async def test_where_the_checkpoint_folder_is_a_file_training_goes_on_and_says_so(
    start_agent: StartAgent, redis: Redis, tmp_path: Path
) -> None:
    (tmp_path / "checkpoints").write_text("in the way")
    agent = start_agent(*OFTEN)
    await agent.says("checkpoint_failed")
    await trains_on(redis, await trains_on(redis))
    await ends_well(agent)
    output = await agent.output()
    assert f'"path":"{tmp_path / "checkpoints"}"' in output
    assert '"reason":"Not a directory"' in output
    assert '"consequence":"the last good checkpoint stays, training goes on"' in output
    assert "checkpoint_saved" not in output
    assert (tmp_path / "checkpoints").read_text() == "in the way"


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="this system cannot limit another process's files")
async def test_where_the_disk_is_full_training_goes_on_and_the_last_good_checkpoint_stays(
    start_agent: StartAgent, redis: Redis, tmp_path: Path
) -> None:
    agent = start_agent(*OFTEN)
    await agent.says("checkpoint_saved")
    resource.prlimit(agent.pid, resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))  # room for the log, not for a checkpoint
    await agent.says("checkpoint_failed")
    kept = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    await trains_on(redis, await trains_on(redis))
    await ends_well(agent)
    assert '"reason":"File too large"' in await agent.output()
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == kept
    assert kept
    assert all(name.isdigit() for name in kept)
