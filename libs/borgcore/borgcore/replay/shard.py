"""One replay memory in Redis: typed calls of its server-side functions."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import structlog
from numpy.typing import NDArray
from redis.asyncio import Redis

from borgcore.connection.client import address_of
from borgcore.errors import CorruptDataError, MismatchError
from borgcore.replay.budget import MEASURABLE_SIZE, MemoryBudget, estimated_bytes
from borgcore.replay.codec import decode_spec, encode_spec
from borgcore.replay.library import Library, call_within
from borgcore.replay.limiter import Limiter
from borgcore.replay.settings import ReplaySettings
from borgcore.replay.transitions import ReplaySpec
from borgcore.run.keys import RunKeys
from borgcore.run.stats import ReplayStats, describe_broken, read_stats

_DRAWN = 1
_log = structlog.get_logger(__name__)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Draw:
    """The result of one sample call; B = number of variates."""

    ids_B: NDArray[np.float64]
    probability_B: NDArray[np.float64]
    messages: list[bytes]


class Shard:
    """The replay memory of one run."""

    def __init__(self, redis: Redis, run: str, spec: ReplaySpec, settings: ReplaySettings) -> None:
        """Prepare the calls; :meth:`open` makes the first one."""
        self.inserted = 0  # transitions ever stored by all agents, as of the newest reply
        self.sampled = 0  # samples ever drawn by all agents, as of the newest reply
        self._redis, self._run, self._spec, self._settings = redis, run, spec, settings
        self._keys = RunKeys(run)
        self._library = Library(redis, self._keys, self._reopen)
        self._limiter = Limiter(settings)
        self.check_batch = self._limiter.check_batch

    async def open(self) -> None:
        """Join the run's memory or start it; a capacity that does not fit is refused only at the start.

        Raises:
            MismatchError: it was started with another spec, capacity or kind of sampling.
            SettingsError: a memory of that capacity would not fit, or the server would evict transitions.
            CorruptDataError: its description is incomplete.
            TimeoutError, ServerError: the server does not answer, or refuses.
        """
        stats = await self._query(lambda: read_stats(self._redis, self._run))
        info = await self._query(lambda: self._redis.info("memory"))
        budget = MemoryBudget.of(info, address_of(self._redis))
        budget.check_policy()
        if stats is None:
            budget.check(self._settings.capacity, estimated_bytes(self._spec))
        await self._join()
        if stats is not None and stats.size >= MEASURABLE_SIZE:
            budget.warn(stats.capacity, stats.bytes_per_transition)
        await self.may_insert()  # for the counters

    async def store(self, scores: Sequence[bytes], messages: Sequence[bytes]) -> None:
        """Append messages to the ring, the newest last."""
        args = [b""] * (2 * len(messages))
        args[0::2], args[1::2] = scores, messages
        self.inserted, self.sampled = await self._library.call("push", *args, timeout_s=self._settings.push_timeout_s)

    async def draw(self, variates_B: NDArray[np.float64], alpha: float) -> Draw | None:
        """Draw one transition per variate in [0, 1); return None if the limiter says wait."""
        limiter, settings = self._limiter, self._settings
        reply = await self._library.call(
            "sample",
            variates_B.astype("<f8").tobytes(),
            alpha,
            settings.min_size,
            limiter.samples_per_insert,
            limiter.min_diff,
            timeout_s=settings.sample_timeout_s,
        )
        outcome, self.inserted, self.sampled = reply[:3]
        if outcome != _DRAWN:
            return None
        return Draw(np.frombuffer(reply[3], "<f8"), np.frombuffer(reply[4], "<f8"), reply[5])

    async def rescore(self, ids_B: NDArray[np.int64], scores: Sequence[bytes]) -> int:
        """Set the scores of those ids that are still stored; return how many."""
        packed = np.asarray(ids_B).astype("<f8").tobytes()
        timeout_s = self._settings.push_timeout_s
        reply = await self._library.call("reprioritise", packed, *scores, timeout_s=timeout_s)
        applied, self.inserted, self.sampled = reply
        return int(applied)

    async def may_insert(self, *, gives_way: bool = False) -> bool:
        """Return whether the limiter lets actors continue."""
        limiter, timeout_s = self._limiter, self._settings.push_timeout_s
        limit = limiter.spare_diff if gives_way else limiter.max_diff
        reply = await self._library.call("ratio", limiter.samples_per_insert, limit, timeout_s=timeout_s)
        may, self.inserted, self.sampled = reply
        return bool(may)

    async def stats(self) -> ReplayStats:
        """Measure the memory."""
        while (stats := await self._query(lambda: read_stats(self._redis, self._run))) is None:
            await self._reopen()
        self.inserted, self.sampled = stats.inserted, stats.sampled
        return stats

    async def _join(self) -> None:
        """Store the properties that all agents of the run share, or compare them with the stored ones."""
        settings = self._settings
        own_spec, indexed = encode_spec(self._spec), int(settings.alpha > 0)
        args = (own_spec, settings.capacity, indexed)
        spec, capacity, found_indexed = await self._library.call("open", *args, timeout_s=settings.push_timeout_s)
        subject = f"the replay memory of run {self._run!r} at {address_of(self._redis)}"
        if None in (spec, capacity, found_indexed):
            raise CorruptDataError(describe_broken(self._redis, self._run))
        if spec != own_spec:
            raise MismatchError(f"{subject} holds {decode_spec(spec)}; this agent has {self._spec} and was refused")
        if int(capacity) != settings.capacity:
            raise MismatchError(
                f"{subject} has capacity {int(capacity)}; this agent's is {settings.capacity} and was refused"
            )
        if int(found_indexed) != indexed:
            kinds = ("uniform (alpha 0)", "by priority (alpha above 0 at first)")
            raise MismatchError(
                f"{subject} is sampled {kinds[int(found_indexed)]}; "
                f"this agent would sample {kinds[indexed]} and was refused"
            )

    async def _reopen(self) -> None:
        """Start the memory again after the server has lost it, so that the run continues."""
        _log.warning("replay_memory_lost", run=self._run, address=address_of(self._redis), inserted=self.inserted)
        await self._join()

    async def _query(self, command: Callable[[], Awaitable[T]]) -> T:
        """Await plain commands with the same retries as functions."""
        address = address_of(self._redis)
        return await call_within(self._settings.push_timeout_s, command, subject="replay stats", address=address)
