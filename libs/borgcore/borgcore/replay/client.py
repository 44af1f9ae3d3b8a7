"""The replay memory as an agent sees it."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import anyio
import numpy as np
import structlog
from numpy.typing import ArrayLike, NDArray
from redis.asyncio import Redis

from borgcore.errors import CorruptDataError, ReplayTooSmallError, SettingsError
from borgcore.replay.codec import decode_transitions, encode_transitions
from borgcore.replay.limiter import Stopwatch
from borgcore.replay.parallel import run_parallel
from borgcore.replay.sampling import importance_weights, scores, stratified
from borgcore.replay.settings import ReplaySettings
from borgcore.replay.shard import Draw, Shard
from borgcore.replay.transitions import Batch, ReplaySpec, Transition
from borgcore.run.stats import ReplayStats

MESSAGES_PER_CALL = 1_000  # the server serves nobody else during a call
_LOWEST_SCORE = b"0"  # below every priority: those are at least PRIORITY_FLOOR

_log = structlog.get_logger(__name__)


class Replay:
    """One replay memory for all agents of a run; made by :func:`open_replay`.

    Calls may overlap. A call that loses its connection is tried again, so transitions may be stored twice, which a
    replay memory tolerates: they are drawn a little more often.
    """

    def __init__(self, shard: Shard, spec: ReplaySpec, settings: ReplaySettings) -> None:
        """Wrap an open shard."""
        self.spec = spec
        self.settings = settings
        self.stale = 0  # priorities for transitions that were overwritten meanwhile
        self.corrupt = 0  # samples that did not decode
        self._shard = shard
        self._threads = anyio.CapacityLimiter(settings.threads)
        self._variates, self._jitter = np.random.default_rng(settings.seed).spawn(2)
        self._insert_watch, self._sample_watch = Stopwatch(), Stopwatch()

    @property
    def inserted(self) -> int:
        """Transitions ever stored by all agents, as of the newest reply."""
        return self._shard.inserted

    @property
    def sampled(self) -> int:
        """Samples ever drawn by all agents, as of the newest reply."""
        return self._shard.sampled

    @property
    def insert_wait_s(self) -> float:
        """Time that actors waited for the rate limiter, including a wait in progress."""
        return self._insert_watch.seconds

    @property
    def sample_wait_s(self) -> float:
        """Time that the learner waited for the rate limiter, including a wait in progress."""
        return self._sample_watch.seconds

    @property
    def insert_waiting(self) -> bool:
        """Whether actors wait for the rate limiter now."""
        return self._insert_watch.running

    @property
    def sample_waiting(self) -> bool:
        """Whether the learner waits for the rate limiter now."""
        return self._sample_watch.running

    def encode(self, transitions: Sequence[Transition]) -> list[bytes]:
        """Compress and pack transitions; blocks, so call it in a thread.

        Raises:
            SettingsError: a transition does not fit the spec.
        """
        return encode_transitions(self.spec, transitions)

    async def push(self, transitions: Sequence[Transition]) -> int:
        """Store transitions, compressing them in threads; return the newest id.

        Raises:
            SettingsError: a transition does not fit the spec.
            CorruptDataError: a priority is not finite.
            TimeoutError: no answer within ``push_timeout_s``.
            ServerError: the server refuses, for example because it is out of memory.
        """
        encoded = await run_parallel(len(transitions), lambda rows: self.encode(transitions[rows]), self._threads)
        messages = [message for part in encoded for message in part]
        return await self.push_encoded(messages, [transition.priority for transition in transitions])

    async def push_encoded(self, messages: Sequence[bytes], priorities: ArrayLike) -> int:
        """Store messages made by :meth:`encode`; return the newest id. Raises as :meth:`push`."""
        ranked = scores(self._jitter, priorities)
        if len(ranked) != len(messages):
            raise SettingsError(f"replay push: {len(ranked)} priorities, {len(messages)} messages; nothing was stored")
        for first in range(0, len(messages), MESSAGES_PER_CALL):
            rows = slice(first, first + MESSAGES_PER_CALL)
            await self._shard.store(ranked[rows], messages[rows])
        return self.inserted - 1

    async def sample(self, batch_size: int, out: Batch | None = None, *, progress: float = 0.0) -> Batch:
        """Draw transitions by priority, with replacement, stratified over the batch.

        Waits for the rate limiter. ``out`` is filled and returned; without it a new batch is allocated. ``progress``
        of the learning, 0 at its beginning, 1 and above at its end, anneals the exponents of priority (alpha) and
        importance weights (beta). A sample that does not decode is replaced by another of the batch and counted in
        ``corrupt``; its slot gets the lowest priority, which matters only while alpha is above 0.

        Returns host arrays; B = batch_size, S = stacked frames, H, W pixels, from the spec:
            ids_B                    int64    for :meth:`reprioritise`
            obs_BSHW, next_obs_BSHW  uint8    0..255, unscaled, the oldest frame first
            action_B                 int64    0..actions - 1
            reward_B                 float32  n-step sum, each step clipped
            discount_B               float32  gamma**k; 0 where the episode terminated, not where it was truncated
            weight_B                 float32  importance weights, above 0, largest is 1

        Raises:
            ReplayTooSmallError: fewer than ``min_size`` transitions are stored, even after ``limiter_timeout_s``.
            TimeoutError: no answer within ``sample_timeout_s``, or the limiter did not agree in ``limiter_timeout_s``.
            CorruptDataError: no sample of the batch decodes.
            SettingsError: ``out`` has another shape, or the error buffer is too small for the batch.
            ServerError: the server refuses.

        Source: Schaul et al. 2016, Prioritized Experience Replay, rank-based variant (section 3.3).
        """
        self._shard.check_batch(batch_size)
        out = Batch.empty(self.spec, batch_size) if out is None else out
        out.check(self.spec, batch_size)
        alpha, beta = self.settings.exponents(progress)
        draw = await self._draw(batch_size, alpha)
        out.ids_B[:] = draw.ids_B
        out.weight_B[:] = importance_weights(draw.probability_B, beta)

        def decode(rows: slice) -> list[int]:
            return decode_transitions(self.spec, draw.messages[rows], out, rows.start)

        decoded = await run_parallel(batch_size, decode, self._threads)
        if corrupt := [row for rows in decoded for row in rows]:
            await self._replace(out, corrupt)
        return out

    async def reprioritise(self, ids_B: NDArray[np.int64], td_errors_B: ArrayLike) -> int:
        """Set new priorities; return how many. Ids overwritten or never issued are ignored and counted in ``stale``.

        ``ids_B`` are those of a sampled batch, ``td_errors_B`` any float dtype, (B,); the sign does not matter.

        Raises:
            CorruptDataError: a TD error is not finite; none is set.
            SettingsError: the numbers of ids and TD errors differ; none is set.
            TimeoutError: no answer within ``push_timeout_s``.
            ServerError: the server refuses.
        """
        ranked = scores(self._jitter, td_errors_B)
        if len(ranked) != len(ids_B):
            raise SettingsError(f"replay reprioritise: {len(ranked)} TD errors for {len(ids_B)} ids; none was set")
        applied = 0
        for first in range(0, len(ranked), MESSAGES_PER_CALL):
            rows = slice(first, first + MESSAGES_PER_CALL)
            applied += await self._shard.rescore(ids_B[rows], ranked[rows])
        self.stale += len(ranked) - applied
        return applied

    async def wait_to_insert(self, *, gives_way: bool = False) -> bool:
        """Wait while actors are too far ahead of the learner, ``limiter_timeout_s`` at most; return whether to act.

        An actor that gives way also waits in the upper half of the error buffer: it acts only if the others leave the
        learner short of transitions.
        """
        if await self._shard.may_insert(gives_way=gives_way):
            return True
        deadline = anyio.current_time() + self.settings.limiter_timeout_s
        with self._insert_watch.wait():
            while anyio.current_time() < deadline:  # not cancelled: that would cut off a reply
                await anyio.sleep(self.settings.limiter_poll_s)
                if await self._shard.may_insert(gives_way=gives_way):
                    return True
        return False

    async def stats(self) -> ReplayStats:
        """Measure the memory; raises TimeoutError and ServerError as :meth:`push`."""
        return await self._shard.stats()

    async def _draw(self, batch_size: int, alpha: float) -> Draw:
        """Draw, waiting for the limiter; one set of variates per wait keeps the draws of a seed repeatable."""
        variates_B = stratified(self._variates, batch_size)
        if draw := await self._shard.draw(variates_B, alpha):
            return draw
        limit_s = self.settings.limiter_timeout_s
        deadline = anyio.current_time() + limit_s
        with self._sample_watch.wait():
            while anyio.current_time() < deadline:  # not cancelled: that would lose samples already counted
                await anyio.sleep(self.settings.limiter_poll_s)
                if draw := await self._shard.draw(variates_B, alpha):
                    return draw
        size = min(self.inserted, self.settings.capacity)
        if size < self.settings.min_size:
            raise ReplayTooSmallError(
                f"replay sample: {size} transitions are stored after {limit_s:g} s, "
                f"at least {self.settings.min_size} are needed"
            )
        raise TimeoutError(
            f"replay sample: the rate limiter allowed none for {limit_s:g} s: {self.sampled} samples of "
            f"{self.inserted} inserts, {self.settings.samples_per_insert:g} per insert are expected"
        )

    async def _replace(self, batch: Batch, corrupt: list[int]) -> None:
        """Overwrite corrupt rows with good ones of the batch, and give their slots the lowest priority."""
        before, self.corrupt = self.corrupt, self.corrupt + len(corrupt)
        ids = batch.ids_B[corrupt]
        if self.corrupt.bit_length() > before.bit_length():  # at 1, 2, 4, 8 ...: a flood must not log every sample
            _log.warning("transitions_corrupt", count=self.corrupt, newest_id=int(ids[-1]))
        await self._shard.rescore(ids, [_LOWEST_SCORE] * len(corrupt))
        good = np.setdiff1d(np.arange(len(batch)), corrupt)
        if not len(good):
            raise CorruptDataError(
                f"replay sample: not one of {len(batch)} transitions decodes, newest id {int(ids.max())}"
            )
        batch.copy_rows(np.resize(good, len(corrupt)), corrupt)


@asynccontextmanager
async def open_replay(redis: Redis, run: str, spec: ReplaySpec, settings: ReplaySettings) -> AsyncIterator[Replay]:
    """Join the run's memory on an open connection, or start it.

        async with open_redis(settings.redis) as redis, open_replay(redis, run, spec, settings.replay) as replay:
            await replay.push(transitions)
            batch = await replay.sample(32)
            await replay.reprioritise(batch.ids_B, td_errors_B)

    Raises:
        MismatchError: the memory was started with another spec, capacity or kind of sampling.
        SettingsError: the memory does not exist yet and would not fit, or the server would evict transitions, or the
            error buffer is too small.
        CorruptDataError: the memory's description is incomplete.
        TimeoutError, ServerError: the server does not answer, or refuses.
    """
    shard = Shard(redis, run, spec, settings)
    await shard.open()
    yield Replay(shard, spec, settings)
