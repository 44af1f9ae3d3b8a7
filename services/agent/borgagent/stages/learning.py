"""The learner's stages, joined by bounded streams so that they overlap.

    sample -> train -> reprioritise
                    -> publish weights
                    -> write checkpoints

Weights and checkpoints have queues of their own: a disk that stalls delays neither training nor published weights.
"""

import math
import time
from dataclasses import dataclass

import anyio
import numpy as np
import structlog
from anyio import CapacityLimiter, create_memory_object_stream, to_thread
from anyio.abc import TaskGroup
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from numpy.typing import NDArray
from redis.asyncio import Redis

from borgagent.dqn.learner import Learner, Tensors, Trained
from borgagent.dqn.settings import LearnerSettings
from borgagent.settings import AgentSettings
from borgagent.stages.checkpoint import CheckpointWriter, Snapshot, take_snapshot
from borgcore.errors import BorgError, ReplayTooSmallError
from borgcore.replay import Batch, Replay, ReplaySpec
from borgcore.run.weights import Weights, encode_weights, publish_weights

CENTRE_BATCHES = 16  # batches whose mean image is subtracted from all frames from then on
_COUNT_PERIOD_S = 0.25  # a wait for data that lasts is counted this often, so that each report shows its share
_MAX_READY = 2  # batches waiting for the train step, on top of those being sampled
_log = structlog.get_logger()

Sampled = tuple[Batch, Tensors]


@dataclass(slots=True)
class LearningProgress:
    """What learning has come to in this process; the report's rates are differences of these."""

    updates: int = 0
    """Train steps since the run began, restarts included."""
    resumed_at: int = 0
    """Updates from which learning went on in this process."""
    wait_s: float = 0.0
    """Time the train step waited for data, limiter waits left out."""
    limiter_s: float = 0.0
    """Time the train step waited because samples were ahead of inserts."""
    loss: float = 0.0
    mean_q: float = 0.0

    @property
    def trained(self) -> bool:
        """Whether there was an update in this process: before, there is no loss."""
        return self.updates > self.resumed_at


class Learning:
    """Trains one learner from the replay memory, publishes its weights and keeps checkpoints."""

    def __init__(
        self,
        redis: Redis,
        replay: Replay,
        learner: Learner,
        settings: AgentSettings,
        *,
        spec: ReplaySpec,
        owner: int | None,
    ) -> None:
        self.progress = LearningProgress(updates=learner.updates, resumed_at=learner.updates)
        self._redis = redis
        self._replay = replay
        self._learner = learner
        self._settings = settings
        self._spec = spec
        self._key = settings.keys.weights(owner)
        self._checkpoints = CheckpointWriter(settings.checkpoints_of(owner))
        self._waiting = False  # for a sample, and that was logged
        self._limiter = CapacityLimiter(1)  # one update, or one look at the weights, at a time

    @property
    def checkpoints_skipped(self) -> int:
        """Checkpoints left out because the one before was still being written."""
        return self._checkpoints.skipped

    async def run(self, stages: TaskGroup) -> None:
        """Sample until cancelled; the stages behind, in ``stages``, then finish what was sampled."""
        settings = self._settings.learner
        batches = await to_thread.run_sync(self._allocate, settings.samplers + _MAX_READY + 1)
        free_send, free = create_memory_object_stream[Batch](len(batches))
        ready_send, ready = create_memory_object_stream[Sampled](_MAX_READY)
        async with ready_send:
            await self._prepare(batches[0])
            for batch in batches:
                free_send.send_nowait(batch)
            stages.start_soon(self._train, ready, free_send, free)
            async with anyio.create_task_group() as samplers:
                samplers.start_soon(self._compile)
                for _ in range(settings.samplers):
                    samplers.start_soon(self._sample, free, ready_send)

    def _allocate(self, count: int) -> list[Batch]:
        size = self._settings.learner.batch_size
        return [Batch.empty(self._spec, size, self._learner.allocate) for _ in range(count)]

    async def _prepare(self, batch: Batch) -> None:
        """Wait for the first transitions; centre the input, where it is not yet; publish what learning starts from."""
        await self._draw(batch)
        if self._learner.updates == 0:
            frames = [(await self._draw(batch)).obs_BSHW.copy() for _ in range(CENTRE_BATCHES)]
            await to_thread.run_sync(self._learner.centre_on, frames)
        _log.info("learner_started", updates=self._learner.updates, device=str(self._learner.device))
        await publish_weights(self._redis, self._key, await self._weights())

    async def _compile(self) -> None:
        """Compile the train step while training goes on without; a thread that compiles is abandoned at a stop."""
        batch = await self._draw((await to_thread.run_sync(self._allocate, 1))[0])
        began = time.monotonic()
        reason = await to_thread.run_sync(self._learner.compile, self._learner.upload(batch), abandon_on_cancel=True)
        _log.info(
            "train_step_chosen",
            train_step="compiled" if reason is None else "eager",
            reason=reason,
            duration_s=round(time.monotonic() - began, 1),
        )

    @property
    def _annealed(self) -> float:
        """How far alpha and beta are on the way to their ends: 0 at the beginning, 1 and above at the end."""
        return self._learner.updates / self._settings.learner.anneal_updates

    async def _draw(self, batch: Batch) -> Batch:
        """One sample; that there is none yet, or not now, is no failure: actors may have ended, others may come."""
        while True:
            try:
                drawn = await self._replay.sample(len(batch), batch, progress=self._annealed)
            except (ReplayTooSmallError, TimeoutError) as error:
                if not self._waiting:
                    _log.info("sample_awaited", updates=self._learner.updates, reason=str(error))
                self._waiting = True
            else:
                self._waiting = False
                return drawn

    async def _sample(self, free: MemoryObjectReceiveStream[Batch], ready: MemoryObjectSendStream[Sampled]) -> None:
        while True:
            batch = await self._draw(await free.receive())
            with anyio.CancelScope(shield=True):  # what was sampled is trained on; the train stage outlives this one
                await ready.send((batch, self._learner.upload(batch)))

    async def _train(
        self,
        ready: MemoryObjectReceiveStream[Sampled],
        free: MemoryObjectSendStream[Batch],
        unused: MemoryObjectReceiveStream[Batch],
    ) -> None:
        """Train until sampling has ended; ``unused``, the samplers' end of ``free``, must stay open until then."""
        errors_send, errors = create_memory_object_stream[tuple[NDArray[np.int64], Trained]](_MAX_READY)
        weights_send, weights = create_memory_object_stream[Weights](1)
        checkpoints = self._checkpoints
        async with ready, free, unused, anyio.create_task_group() as stages, errors_send, weights_send, checkpoints:
            stages.start_soon(self._reprioritise, errors)
            stages.start_soon(self._publish, weights)
            stages.start_soon(checkpoints.run)
            due = _Due(self._settings.learner)
            while (sampled := await self._next(ready)) is not None:
                batch, tensors = sampled
                trained = await to_thread.run_sync(self._learner.train, tensors, limiter=self._limiter)
                self._count(trained)
                await errors_send.send((batch.ids_B.copy(), trained))
                free.send_nowait(batch)
                if due.weights():
                    await weights_send.send(await self._weights())
                if due.checkpoint() and checkpoints.ready():
                    await checkpoints.send(await self._snapshot())
            await weights_send.send(await self._weights())
            await checkpoints.send(await self._snapshot())

    async def _next(self, ready: MemoryObjectReceiveStream[Sampled]) -> Sampled | None:
        """The next batch, the wait for it counted while it lasts; None where sampling has ended."""
        while True:
            began, limited = time.monotonic(), self._replay.sample_wait_s
            try:
                with anyio.move_on_after(_COUNT_PERIOD_S):
                    return await ready.receive()
            except anyio.EndOfStream:
                return None
            finally:
                waited = time.monotonic() - began
                limiter = min(waited, self._replay.sample_wait_s - limited)
                self.progress.limiter_s += limiter
                self.progress.wait_s += waited - limiter

    def _count(self, trained: Trained) -> None:
        if not math.isfinite(trained.loss):
            raise BorgError(
                f"train step {self._learner.updates} gave loss {trained.loss}: learning diverged; its weights are "
                "neither published nor kept, this process ends; a smaller --learner.learning-rate may help"
            )
        progress, weight = self.progress, 0.01  # of the newest update in the running means
        fresh = not progress.trained
        progress.updates = self._learner.updates
        progress.loss = trained.loss if fresh else progress.loss + weight * (trained.loss - progress.loss)
        progress.mean_q = trained.mean_q if fresh else progress.mean_q + weight * (trained.mean_q - progress.mean_q)

    async def _reprioritise(self, errors: MemoryObjectReceiveStream[tuple[NDArray[np.int64], Trained]]) -> None:
        async with errors:
            async for ids_B, trained in errors:
                alpha, _ = self._settings.replay.exponents(self._annealed)
                if alpha > 0.0:
                    await self._replay.reprioritise(ids_B, trained.td_error_B)

    async def _weights(self) -> Weights:
        arrays = await to_thread.run_sync(self._learner.weights, limiter=self._limiter)
        return Weights(self._learner.updates + 1, await to_thread.run_sync(encode_weights, arrays))

    async def _snapshot(self) -> Snapshot:
        return await to_thread.run_sync(
            take_snapshot, self._learner, self._settings.network, self._spec, limiter=self._limiter
        )

    async def _publish(self, weights: MemoryObjectReceiveStream[Weights]) -> None:
        async with weights:
            async for version in weights:
                await publish_weights(self._redis, self._key, version)


class _Due:
    """Whether it is time to publish weights, or to write a checkpoint."""

    def __init__(self, settings: LearnerSettings) -> None:
        self._settings = settings
        self._published_s = self._saved_s = time.monotonic()

    def weights(self) -> bool:
        now = time.monotonic()
        due = now >= self._published_s + self._settings.publish_period_s
        self._published_s = now if due else self._published_s
        return due

    def checkpoint(self) -> bool:
        now = time.monotonic()
        due = now >= self._saved_s + self._settings.checkpoint_period_s
        self._saved_s = now if due else self._saved_s
        return due
