"""Taking over the learner's role: continue where the run's previous learner stopped."""

import structlog
from anyio import to_thread
from redis.asyncio import Redis

from borgagent.dqn.learner import Learner
from borgagent.settings import AgentSettings
from borgagent.stages.checkpoint import load_checkpoint
from borgcore.errors import CorruptDataError
from borgcore.replay import ReplaySpec
from borgcore.run.weights import decode_weights, fetch_weights, weights_size_limit

_log = structlog.get_logger()


def owner_of(settings: AgentSettings, number: int) -> int | None:
    """Return the owner of the weights and checkpoints that agent ``number`` uses: itself or, as None, the run.

    Only in mode ``private`` does each agent have its own.
    """
    return number if settings.learn == "private" else None


async def take_over(
    redis: Redis, learner: Learner, settings: AgentSettings, spec: ReplaySpec, owner: int | None
) -> None:
    """Load the newest whole checkpoint, then the published weights if they are newer.

    Raises:
        MismatchError: the checkpoint or the weights belong to another game, network or shape.
    """
    await to_thread.run_sync(_resume, learner, settings, spec, owner)
    await _catch_up(redis, learner, settings.keys.weights(owner))


def _resume(learner: Learner, settings: AgentSettings, spec: ReplaySpec, owner: int | None) -> None:
    folder = settings.checkpoints_of(owner)
    if load_checkpoint(folder, learner, settings.network, spec):
        _log.info("checkpoint_loaded", path=str(folder), updates=learner.updates)


async def _catch_up(redis: Redis, learner: Learner, key: str) -> None:
    """Load weights published after the checkpoint; the optimiser keeps the checkpoint's state."""
    shapes = {name: tuple(tensor.shape) for name, tensor in learner.online.state_dict().items()}
    try:
        newer = await fetch_weights(redis, key, learner.updates + 1, weights_size_limit(shapes))
        if newer is not None:
            learner.load_weights(decode_weights(newer.data, shapes))
            learner.updates = newer.version - 1
            _log.info("weights_taken_over", updates=learner.updates)
    except CorruptDataError as error:
        _log.warning("weights_refused", reason=str(error), consequence="learning continues from the checkpoint")
