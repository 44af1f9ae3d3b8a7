"""The acting stages: act -> push, and follow, which loads newer published weights."""

import copy
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import anyio
import structlog
import torch
from anyio import CapacityLimiter, to_thread
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from redis.asyncio import Redis

from borgagent.dqn.actor import Actor, Rollout
from borgagent.dqn.network import QNetwork
from borgcore.errors import CorruptDataError
from borgcore.replay import Replay, Transition
from borgcore.run.reports import MAX_RECENT
from borgcore.run.weights import decode_weights, fetch_weights, weights_size_limit

FOLLOW_PERIOD_S = 0.5  # between two checks for newer weights
_log = structlog.get_logger()


@dataclass(slots=True)
class ActingProgress:
    """Counters of acting in this process; the report's rates are their differences."""

    steps: int = 0
    episodes: int = 0
    recent: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=MAX_RECENT))
    pause_s: float = 0.0
    """Time for which the limiter or a full push queue held acting back, without a pause in progress."""
    paused_at_s: float | None = None
    """Monotonic time at which the pause in progress began; None outside a pause."""
    epsilon: float = 1.0
    weights_version: int = 0
    weights_at_s: float | None = None
    """Monotonic time at which the weights in use were fetched; None before the first."""

    @property
    def all_pauses_s(self) -> float:
        """Time of all pauses, including one in progress."""
        return self.pause_s + (0.0 if self.paused_at_s is None else time.monotonic() - self.paused_at_s)

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Count the time of the block as a pause."""
        self.paused_at_s = time.monotonic()
        try:
            yield
        finally:
            self.pause_s, self.paused_at_s = self.all_pauses_s, None

    def count(self, rollout: Rollout) -> None:
        """Count one chunk of play."""
        self.steps += rollout.steps
        self.episodes += len(rollout.episodes)
        self.recent.extend((time.time(), episode.score) for episode in rollout.episodes)


async def act(  # noqa: PLR0917  # started by a task group, which passes arguments by position
    actor: Actor,
    wait_for_turn: Callable[[], Awaitable[bool]],
    send: MemoryObjectSendStream[list[Transition]],
    progress: ActingProgress,
    epsilon: Callable[[], float],
    record: Callable[[Rollout, int], None],
) -> None:
    """Play chunk after chunk in a worker thread until cancelled; every chunk that was played is sent.

    Args:
        actor: plays the chunks.
        wait_for_turn: waits for a bounded time and returns whether the agent may act.
        send: receives the transitions of each chunk.
        progress: is kept up to date.
        epsilon: returns the present share of random actions.
        record: is called with each chunk and the version of the weights that played it, before the chunk is sent.
    """
    limiter = CapacityLimiter(1)
    while True:
        with progress.pause():
            while not await wait_for_turn():
                pass
        progress.epsilon, weights_version = epsilon(), progress.weights_version
        with anyio.CancelScope(shield=True):  # for one chunk; the push stage outlives this one
            rollout = await to_thread.run_sync(actor.play, actor.chunk_steps, progress.epsilon, limiter=limiter)
            record(rollout, weights_version)
            if rollout.transitions:
                with progress.pause():
                    await send.send(rollout.transitions)
        await anyio.lowlevel.checkpoint()


async def push(replay: Replay, receive: MemoryObjectReceiveStream[list[Transition]]) -> None:
    """Store every chunk, in order, until the acting stage has closed the stream."""
    async with receive:
        async for transitions in receive:
            await replay.push(transitions)


async def follow(redis: Redis, key: str, actor: Actor, progress: ActingProgress) -> None:
    """Give ``actor`` newer weights as they are published, until cancelled; the actor continues meanwhile."""
    shapes = {name: tuple(tensor.shape) for name, tensor in actor.network.state_dict().items()}
    limit = weights_size_limit(shapes)
    refused = False
    while True:
        try:
            weights = await fetch_weights(redis, key, progress.weights_version, limit)
            if weights is not None:
                actor.network = await to_thread.run_sync(_load, actor.network, weights.data, shapes)
                progress.weights_version, progress.weights_at_s = weights.version, time.monotonic()
                refused = False
        except CorruptDataError as error:
            if not refused:
                _log.warning("weights_refused", reason=str(error), consequence="the weights in use stay")
            refused = True
        await anyio.sleep(FOLLOW_PERIOD_S)


def _load(current: QNetwork, data: bytes, shapes: dict[str, tuple[int, ...]]) -> QNetwork:
    network = copy.deepcopy(current)
    network.load_state_dict({name: torch.from_numpy(array) for name, array in decode_weights(data, shapes).items()})
    return network
