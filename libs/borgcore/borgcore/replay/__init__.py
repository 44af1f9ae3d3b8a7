"""One replay memory for all agents of a run: a client, and functions that run inside Redis.

The public names load on first use (PEP 562), so that :mod:`borgcore.replay.transitions` loads without redis.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from borgcore.replay.client import Replay, open_replay
    from borgcore.replay.settings import ReplaySettings
    from borgcore.replay.transitions import Batch, ReplaySpec, Transition
    from borgcore.run.stats import ReplayStats, read_stats

__all__ = ["Batch", "Replay", "ReplaySettings", "ReplaySpec", "ReplayStats", "Transition", "open_replay", "read_stats"]

_MODULES = {
    "Batch": "borgcore.replay.transitions",
    "Replay": "borgcore.replay.client",
    "ReplaySettings": "borgcore.replay.settings",
    "ReplaySpec": "borgcore.replay.transitions",
    "ReplayStats": "borgcore.run.stats",
    "Transition": "borgcore.replay.transitions",
    "open_replay": "borgcore.replay.client",
    "read_stats": "borgcore.run.stats",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)
