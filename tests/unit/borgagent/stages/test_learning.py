"""The learner's stages over a real Valkey, and a disk that hangs."""

import errno
import os
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import numpy as np
import pytest
from anyio import CancelScope
from redis.asyncio import Redis
from structlog.testing import capture_logs

from borgagent.settings import AgentSettings
from borgagent.stages import checkpoint
from borgagent.stages.checkpoint import Snapshot
from borgagent.stages.learning import Learning
from borgcore.connection.client import open_redis
from borgcore.replay import Transition, open_replay
from tests.limits import HANG_S
from tests.unit.borgagent.dqn.learners import TINY

from .learners import learner_of, names_in


class HangingDisk:
    """Replaces the function that writes a checkpoint: blocks until it is released, then writes, or fails."""

    def __init__(self) -> None:
        self.write = checkpoint.save_checkpoint
        self.reached, self.released = threading.Event(), threading.Event()
        self.error: OSError | None = None

    def __call__(self, folder: Path, snapshot: Snapshot) -> Path:
        self.reached.set()
        assert self.released.wait(HANG_S)
        if self.error is not None:
            raise self.error
        return self.write(folder, snapshot)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> HangingDisk:
    disk = HangingDisk()
    monkeypatch.setattr(checkpoint, "save_checkpoint", disk)
    return disk


@pytest.fixture
def settings(tmp_path: Path, run: str, valkey_url: str) -> AgentSettings:
    return AgentSettings.load([
        "--game", "catch", "--run", run, "--redis-url", valkey_url, "--checkpoint-dir", str(tmp_path / "kept"),
        "--learner.publish-period-s", "0.01", "--learner.checkpoint-period-s", "0.01", "--learner.compile", "never",
        "--learner.batch-size", "8", "--replay.min-size", "50", "--replay.samples-per-insert", "0",
    ])  # fmt: skip


def transitions(count: int) -> list[Transition]:
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (count, TINY.frames(1), TINY.height, TINY.width), np.uint8)
    return [Transition(frames[row], row % 3, 1.0, 0.9, 1, 1.0) for row in range(count)]


@asynccontextmanager
async def learning(settings: AgentSettings) -> AsyncIterator[tuple[Learning, Redis, Callable[[], None]]]:
    """Train in the background; yields what stops sampling. The block ends once all stages have ended."""
    spec = settings.spec(TINY.actions)
    async with (
        open_redis(settings.redis) as redis,
        open_replay(redis, settings.run, spec, settings.seeded_replay) as replay,
    ):
        await replay.push(transitions(100))
        learner = await anyio.to_thread.run_sync(learner_of)  # torch reads files for its first optimiser
        stage, intake = Learning(redis, replay, learner, settings, owner=None), CancelScope()

        async def sample(stages: anyio.abc.TaskGroup) -> None:
            with intake:
                await stage.run(stages)

        with anyio.fail_after(HANG_S):
            async with anyio.create_task_group() as stages:
                stages.start_soon(sample, stages)
                yield stage, redis, intake.cancel


async def version_above(redis: Redis, settings: AgentSettings, version: int) -> int:
    """Wait for published weights newer than ``version``."""
    while True:
        found = int(await redis.hget(settings.keys.weights(), "version") or 0)
        if found > version:
            return found
        await anyio.sleep(0.002)


async def test_a_disk_that_hangs_delays_neither_training_nor_published_weights(
    settings: AgentSettings, disk: HangingDisk, tmp_path: Path
) -> None:
    with capture_logs() as logs:
        async with learning(settings) as (stage, redis, stop):
            await anyio.to_thread.run_sync(disk.reached.wait, HANG_S)
            version = 0
            for _ in range(5):
                version = await version_above(redis, settings, version)
            assert not disk.released.is_set()
            assert stage.progress.updates >= version - 1
            disk.released.set()
            stop()
    events = [line["event"] for line in logs]
    hung = events[: events.index("checkpoint_saved")]
    assert hung.count("checkpoint_skipped_slow_disk") == 1, "logged once, however many are skipped"
    skipped = [line["skipped"] for line in logs if line["event"] == "checkpoint_saved"]
    assert skipped[0] > 1
    assert sum(skipped) == stage.checkpoints.skipped
    assert names_in(tmp_path / "kept")[-1] == f"{stage.progress.updates:012d}", "the last state is kept as well"


async def test_at_the_end_the_last_weights_do_not_wait_for_a_disk_that_hangs(
    settings: AgentSettings, disk: HangingDisk, tmp_path: Path
) -> None:
    async with learning(settings) as (stage, redis, stop):
        await anyio.to_thread.run_sync(disk.reached.wait, HANG_S)
        stop()
        queue = stage.checkpoints._send  # in which the last checkpoint waits behind the one that hangs
        while queue.statistics().current_buffer_used == 0:  # noqa: ASYNC110  # a queue has no event
            await anyio.sleep(0.002)
        updates = stage.progress.updates
        assert await version_above(redis, settings, updates) == updates + 1
        assert not (tmp_path / "kept").exists(), "nothing has been written yet"
        disk.released.set()
    assert stage.progress.updates == updates, "training had ended"
    assert names_in(tmp_path / "kept")[-1] == f"{updates:012d}", "written once the disk is back"


async def test_checkpoints_skipped_before_a_write_that_fails_are_counted_as_well(
    settings: AgentSettings, disk: HangingDisk
) -> None:
    disk.error = OSError(errno.EIO, os.strerror(errno.EIO))
    with capture_logs() as logs:
        async with learning(settings) as (stage, _, stop):
            while stage.checkpoints.skipped < 2:  # noqa: ASYNC110  # a counter has no event
                await anyio.sleep(0.002)
            disk.released.set()
            stop()
    failed = [line for line in logs if line["event"] == "checkpoint_failed"]
    assert failed[0]["reason"] == "Input/output error"
    assert failed[0]["skipped"] > 1
    assert sum(line["skipped"] for line in failed) == stage.checkpoints.skipped


async def test_checkpoints_are_written_one_after_the_other_while_training_goes_on(
    settings: AgentSettings, tmp_path: Path
) -> None:
    with capture_logs() as logs:
        async with learning(settings) as (stage, _, stop):
            while sum(line["event"] == "checkpoint_saved" for line in logs) < 3:  # noqa: ASYNC110  # logs have no event
                await anyio.sleep(0.002)
            stop()
    assert names_in(tmp_path / "kept")[-1] == f"{stage.progress.updates:012d}"
    assert len(names_in(tmp_path / "kept")) == checkpoint.KEPT
