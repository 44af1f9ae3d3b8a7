"""The learner's stages, joined by bounded streams so that they overlap.

    sample -> train -> reprioritise
                    -> publish weights
                    -> write checkpoints

Weights and checkpoints have separate queues: a disk that stalls delays neither training nor published weights.
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

from borgagent.dqn.learner import Learner, Tensors, TrainResult
from borgagent.settings import AgentSettings
from borgagent.stages.checkpoint import CheckpointWriter, Snapshot, take_snapshot
from borgcore.errors import BorgError, ReplayTooSmallError
from borgcore.replay import Batch, Replay
from borgcore.run.weights import Weights, encode_weights, publish_weights

CENTRE_BATCHES = 16  # batches from which the mean image is computed before the first update
_COUNT_PERIOD_S = 0.25  # a long wait for data is counted in steps of this length, so that every report shows it
_NEWEST_SHARE = 0.01  # of the newest update in the running means of loss and mean_q
_MAX_READY = 2  # batches waiting for the train step, besides those being sampled
_log = structlog.get_logger()

Sampled = tuple[Batch, Tensors]
TdErrors = tuple[NDArray[np.int64], NDArray[np.float32]]  # ids_B, td_error_B


@dataclass(slots=True)
class LearningProgress:
    """Counters of learning in this process; the report's rates are their differences."""

    updates: int = 0
    """Train steps since the run began, including those of previous learners."""
    resumed_at: int = 0
    """Updates at which this process took over."""
    wait_s: float = 0.0
    """Time the train step waited for data, without waits for the rate limiter."""
    limiter_s: float = 0.0
    """Time the train step waited because samples were ahead of inserts."""
    loss: float = 0.0
    """Running mean of the loss."""
    mean_q: float = 0.0
    """Running mean of the Q values of the actions taken."""

    @property
    def trained(self) -> bool:
        """Whether this process has made an update; before the first, loss and mean_q have no value."""
        return self.updates > self.resumed_at


class Learning:
    """Trains one learner from the replay memory, publishes its weights and keeps checkpoints.

    ``owner`` is the number of the agent whose private weights and checkpoints these are, or None for the run's.
    """

    def __init__(
        self, redis: Redis, replay: Replay, learner: Learner, settings: AgentSettings, owner: int | None
    ) -> None:
        self.progress = LearningProgress(updates=learner.updates, resumed_at=learner.updates)
        self.checkpoints = CheckpointWriter(settings.checkpoints_of(owner))
        self._redis = redis
        self._replay = replay
        self._learner = learner
        self._settings = settings
        self._key = settings.keys.weights(owner)
        self._wait_logged = False
        self._limiter = CapacityLimiter(1)  # one thread at a time updates or reads the networks

    async def run(self, stages: TaskGroup) -> None:
        """Sample until cancelled; the later stages, started in ``stages``, then finish what was sampled."""
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
        return [Batch.empty(self._replay.spec, size, self._learner.allocate) for _ in range(count)]

    async def _prepare(self, batch: Batch) -> None:
        """Wait for enough transitions, centre the input of a new learner, and publish the weights it starts with."""
        await self._draw(batch)
        if self._learner.updates == 0:
            frames = [(await self._draw(batch)).obs_BSHW.copy() for _ in range(CENTRE_BATCHES)]
            await to_thread.run_sync(self._learner.centre_on, frames)
        _log.info("learner_started", updates=self._learner.updates, device=str(self._learner.device))
        await publish_weights(self._redis, self._key, await self._weights())

    async def _compile(self) -> None:
        """Compile the train step while training continues uncompiled; a stop abandons the compiling thread."""
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
        """How far alpha and beta have moved from their starts (0) to their ends (1 and above)."""
        return self._learner.updates / self._settings.learner.anneal_updates

    async def _draw(self, batch: Batch) -> Batch:
        """Fill ``batch`` with one sample; while there is none, log once and keep asking: actors may yet come."""
        while True:
            try:
                drawn = await self._replay.sample(len(batch), batch, progress=self._annealed)
            except (ReplayTooSmallError, TimeoutError) as error:
                if not self._wait_logged:
                    _log.info("sample_awaited", updates=self._learner.updates, reason=str(error))
                self._wait_logged = True
            else:
                self._wait_logged = False
                return drawn

    async def _sample(self, free: MemoryObjectReceiveStream[Batch], ready: MemoryObjectSendStream[Sampled]) -> None:
        while True:
            batch = await self._draw(await free.receive())
            with anyio.CancelScope(shield=True):  # every sample is trained on; the train stage outlives this one
                await ready.send((batch, self._learner.upload(batch)))

    async def _train(
        self,
        ready: MemoryObjectReceiveStream[Sampled],
        free_send: MemoryObjectSendStream[Batch],
        free: MemoryObjectReceiveStream[Batch],
    ) -> None:
        """Train until sampling has ended, then publish the last weights and write the last checkpoint.

        Used batches go back to the samplers through ``free_send``. ``free``, the samplers' end, is closed only here,
        because sending fails once a stream has no receiver.
        """
        errors_send, errors = create_memory_object_stream[TdErrors](_MAX_READY)
        weights_send, weights = create_memory_object_stream[Weights](1)
        checkpoints = self.checkpoints
        publish_timer = _Timer(self._settings.learner.publish_period_s)
        checkpoint_timer = _Timer(self._settings.learner.checkpoint_period_s)
        async with ready, free_send, free, anyio.create_task_group() as later, errors_send, weights_send, checkpoints:
            later.start_soon(self._reprioritise, errors)
            later.start_soon(self._publish, weights)
            later.start_soon(checkpoints.run)
            while (sampled := await self._next(ready)) is not None:
                batch, tensors = sampled
                result = await to_thread.run_sync(self._learner.train, tensors, limiter=self._limiter)
                self._count(result)
                await errors_send.send((batch.ids_B.copy(), result.td_error_B))
                free_send.send_nowait(batch)
                if publish_timer.due():
                    await weights_send.send(await self._weights())
                if checkpoint_timer.due():
                    await checkpoints.offer(self._snapshot)
            await weights_send.send(await self._weights())
            await checkpoints.send(await self._snapshot())

    async def _next(self, ready: MemoryObjectReceiveStream[Sampled]) -> Sampled | None:
        """Return the next batch, or None once sampling has ended; the wait is counted while it lasts."""
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

    def _count(self, result: TrainResult) -> None:
        if not math.isfinite(result.loss):
            raise BorgError(
                f"train step {self._learner.updates} gave loss {result.loss}: learning diverged; its weights are "
                "neither published nor kept, this process ends; a smaller --learner.learning-rate may help"
            )
        progress, first = self.progress, not self.progress.trained
        progress.updates = self._learner.updates
        share = 1.0 if first else _NEWEST_SHARE
        progress.loss += share * (result.loss - progress.loss)
        progress.mean_q += share * (result.mean_q - progress.mean_q)

    async def _reprioritise(self, errors: MemoryObjectReceiveStream[TdErrors]) -> None:
        async with errors:
            async for ids_B, td_error_B in errors:
                alpha, _ = self._settings.replay.exponents(self._annealed)
                if alpha > 0.0:
                    await self._replay.reprioritise(ids_B, td_error_B)

    async def _weights(self) -> Weights:
        arrays = await to_thread.run_sync(self._learner.weights, limiter=self._limiter)
        return Weights(self._learner.updates + 1, await to_thread.run_sync(encode_weights, arrays))

    async def _snapshot(self) -> Snapshot:
        return await to_thread.run_sync(
            take_snapshot, self._learner, self._settings.network, self._replay.spec, limiter=self._limiter
        )

    async def _publish(self, weights: MemoryObjectReceiveStream[Weights]) -> None:
        async with weights:
            async for version in weights:
                await publish_weights(self._redis, self._key, version)


class _Timer:
    """Is due once per period, for the first time after one period."""

    def __init__(self, period_s: float) -> None:
        self._period_s = period_s
        self._last_s = time.monotonic()

    def due(self) -> bool:
        now = time.monotonic()
        if now < self._last_s + self._period_s:
            return False
        self._last_s = now
        return True
