"""A Valkey for each test, and real agent processes."""

import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from redis.asyncio import BlockingConnectionPool, Redis

from tests.limits import HANG_S
from tests.valkey import ValkeyServer

from .process import GRACE_S, LEASE_S, RUN, AgentProcess, StartAgent


@pytest.fixture
def valkey(start_valkey: Callable[..., ValkeyServer], short_folder: Path) -> str:
    """The URL of a server that only this test uses."""
    start_valkey(short_folder / "s")
    return f"unix://{short_folder / 's'}"


@pytest_asyncio.fixture
async def redis(valkey: str) -> AsyncIterator[Redis]:
    client = Redis(connection_pool=BlockingConnectionPool.from_url(valkey, max_connections=1))
    await client.ping()  # redis-py looks at files when it connects, which must not count as our code's
    yield client
    await client.aclose(close_connection_pool=True)


@pytest.fixture
def start_agent(valkey: str, tmp_path: Path) -> Iterator[StartAgent]:
    """Return a function that starts an agent of Catch: eager, with limits that outlast a busy machine."""
    started: list[AgentProcess] = []

    def start(*arguments: str, url: str = valkey, **env: str) -> AgentProcess:
        log = tmp_path / f"agent-{len(started)}.log"
        base = ["--redis-url", url, "--run", RUN, "--game", "catch", "--learner.compile", "never"]
        base += ["--lease-s", str(LEASE_S), "--grace-s", str(GRACE_S), "--redis-outage-s", str(HANG_S)]
        base += ["--replay.push-timeout-s", str(HANG_S), "--replay.sample-timeout-s", str(HANG_S)]
        base += ["--log-format", "json", "--checkpoint-dir", str(tmp_path / "checkpoints")]
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("BORG_")}
        with log.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", "borgagent.main", *base, *arguments],
                cwd=tmp_path,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env={**inherited, **env},
            )
        started.append(AgentProcess(process, log))
        return started[-1]

    yield start
    for agent in started:
        if agent.process.poll() is None:
            agent.process.kill()
        agent.process.wait()
        sys.stdout.write(f"--- {agent.log.name}\n{agent.log.read_text()[-4000:]}\n")
