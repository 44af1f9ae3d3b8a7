"""One replay memory for all agents of a run: a client, and functions that run inside Redis."""

from borgcore.replay.client import Replay, open_replay
from borgcore.replay.settings import ReplaySettings
from borgcore.replay_stats import ReplayStats, read_stats
from borgcore.transitions import Batch, ReplaySpec, Transition

__all__ = ["Batch", "Replay", "ReplaySettings", "ReplaySpec", "ReplayStats", "Transition", "open_replay", "read_stats"]
