"""The agent's acting stages: act -> push, and following the published weights."""

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

FOLLOW_PERIOD_S = 0.5  # between two looks for newer weights
_log = structlog.get_logger()


@dataclass(slots=True)
class ActingProgress:
    """What acting has come to in this process."""

    steps: int = 0
    episodes: int = 0
    recent: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=MAX_RECENT))
    pause_s: float = 0.0
    """Time not spent acting because the limiter or a full push queue held it back, a pause in progress left out."""
    paused_at_s: float | None = None
    """Monotonic time at which a pause in progress began."""
    epsilon: float = 1.0
    weights_version: int = 0
    weights_at_s: float | None = None
    """Monotonic time at which the weights in use were fetched; None before the first."""

    @property
    def all_pauses_s(self) -> float:
        """Time of all pauses, one in progress included."""
        return self.pause_s + (0.0 if self.paused_at_s is None else time.monotonic() - self.paused_at_s)

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Count the body as a pause."""
        self.paused_at_s = time.monotonic()
        try:
            yield
        finally:
            self.pause_s, self.paused_at_s = self.all_pauses_s, None

    def take(self, rollout: Rollout) -> None:
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
    take: Callable[[Rollout, int], None],
) -> None:
    """Play chunk after chunk in a worker thread until cancelled; a chunk that was played is always handed on.

    ``wait_for_turn`` returns whether there is leave to act, after a wait of bounded length. ``take`` is given each
    chunk, and the version of the weights it was played with, before it is pushed.
    """
    limiter = CapacityLimiter(1)
    while True:
        with progress.pause():
            while not await wait_for_turn():
                pass
        progress.epsilon, weights_version = epsilon(), progress.weights_version
        # bounded by the chunk's length and by the push stage, which outlives this one
        with anyio.CancelScope(shield=True):
            rollout = await to_thread.run_sync(actor.play, actor.chunk_steps, progress.epsilon, limiter=limiter)
            take(rollout, weights_version)
            if rollout.transitions:
                with progress.pause():
                    await send.send(rollout.transitions)
        await anyio.lowlevel.checkpoint()


async def push(replay: Replay, receive: MemoryObjectReceiveStream[list[Transition]]) -> None:
    """Store every chunk, in order, until the acting stage has closed its end."""
    async with receive:
        async for transitions in receive:
            await replay.push(transitions)


async def follow(redis: Redis, key: str, actor: Actor, progress: ActingProgress) -> None:
    """Swap in newer weights as they are published; acting goes on meanwhile."""
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
                _log.warning("weights_refused", reason=str(error))
            refused = True
        await anyio.sleep(FOLLOW_PERIOD_S)


def _load(current: QNetwork, data: bytes, shapes: dict[str, tuple[int, ...]]) -> QNetwork:
    network = copy.deepcopy(current)
    network.load_state_dict({name: torch.from_numpy(array) for name, array in decode_weights(data, shapes).items()})
    return network
