"""Servers that a test may break, and a replay memory to look at."""

import shutil
import signal
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from anyio import to_thread
from redis.asyncio import Redis

from borgcore.connection.client import open_redis
from borgcore.replay import Replay, ReplaySettings, ReplaySpec, Transition, open_replay
from borgcore.settings.sections import RedisSettings

SPEC = ReplaySpec("pong", stack=4, height=84, width=84, n=3, actions=6, gamma=0.99)
MEMORY = ReplaySettings(capacity=1_000, min_size=10, samples_per_insert=0.0, seed=7)


@dataclass
class Breakable:
    """A server of the test's own."""

    server: Any
    folder: Path
    url: str

    @property
    def address(self) -> str:
        return self.url.removeprefix("redis://")

    async def stop(self) -> None:
        await to_thread.run_sync(self.server.stop)

    async def start(self) -> None:
        await to_thread.run_sync(self.server.start)

    def signal(self, number: signal.Signals) -> None:
        process = getattr(self.server, "process", None) or self.server._process
        process.send_signal(number)

    async def occupy_dump(self) -> None:
        """Put a folder where the server writes its dump: its saves fail."""
        await to_thread.run_sync((self.folder / "dump.rdb").mkdir)

    async def free_dump(self) -> None:
        await to_thread.run_sync(partial(shutil.rmtree, self.folder / "dump.rdb"))


@pytest.fixture(params=["valkey", "redis"])
def start_server(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., Breakable]:
    """Starts the newest and the oldest server we support, one after the other, with options of the test's."""
    start = request.getfixturevalue(f"start_{request.param}")

    def begin(**options: str) -> Breakable:
        server = start(**{"dbfilename": "dump.rdb", **options})
        if request.param == "valkey":
            server._desired_port = server.port  # else it comes back on another
        return Breakable(server, tmp_path / f"{request.param}0", server.connection_url)

    return begin


@pytest.fixture
async def server(start_server: Callable[..., Breakable]) -> Breakable:
    return await to_thread.run_sync(start_server)


@pytest.fixture
async def redis(server: Breakable) -> AsyncIterator[Redis]:
    async with open_redis(RedisSettings(url=server.url)) as redis:
        yield redis


@pytest.fixture
async def replay(redis: Redis, run: str) -> AsyncIterator[Replay]:
    async with open_replay(redis, run, SPEC, MEMORY) as replay:
        yield replay


def transitions(count: int) -> list[Transition]:
    frames = np.random.default_rng(0).integers(0, 256, (7, 84, 84), np.uint8)
    return [Transition(frames, 0, float(i), 0.5, 3, 1.0) for i in range(count)]


async def fill(redis: Redis, run: str) -> None:
    """Store 50 transitions and draw 32."""
    async with open_replay(redis, run, SPEC, MEMORY) as replay:
        await replay.push(transitions(50))
        await replay.sample(32)
