"""Conditions in a sample that deserve a warning."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from borgcore.events.monitoring import MemorySampled
from borgmonitor.nodes import ReplayState

Kind = Literal[
    "server_lost",
    "keys_evicted",
    "memory_high",
    "bgsave_failed",
    "aof_rewrite_failed",
    "aof_write_failed",
    "inserts_stalled",
    "replay_unreadable",
]
MEMORY_LIMIT = 0.9  # of maxmemory
_STATUSES: dict[Kind, tuple[str, str]] = {
    "bgsave_failed": ("redis_rdb_last_bgsave_status", "the last background save"),
    "aof_rewrite_failed": ("redis_aof_last_bgrewrite_status", "the last rewrite of the append-only file"),
    "aof_write_failed": ("redis_aof_last_write_status", "the last write to the append-only file"),
}


@dataclass(frozen=True, slots=True)
class Condition:
    """One thing that needs attention."""

    kind: Kind
    text: str
    value: float | None = None
    limit: float | None = None


def conditions_of(sample: MemorySampled, evicted_before: int | None) -> Iterator[Condition]:
    """Yield the conditions in one sample; ``evicted_before`` is the previous counter of evicted keys."""
    evicted = sample.redis_evicted_keys_total
    if evicted is not None and evicted_before is not None and evicted > evicted_before:
        keys = evicted - evicted_before
        yield Condition(
            "keys_evicted",
            f"the server evicted {keys} keys since the previous sample; expected maxmemory-policy noeviction",
            keys,
            0,
        )
    used, most = sample.redis_memory_used_bytes, sample.redis_memory_max_bytes
    if used is not None and most and used > MEMORY_LIMIT * most:
        limit = round(MEMORY_LIMIT * most)
        yield Condition(
            "memory_high",
            f"{used} bytes are in use, {used / most:.0%} of maxmemory ({most}); expected at most {MEMORY_LIMIT:.0%}",
            used,
            limit,
        )
    for kind, (field, subject) in _STATUSES.items():
        if getattr(sample, field) == 0:
            yield Condition(kind, f"{subject} failed; the server's log says why")


class InsertWatch:
    """Detects stalled inserts: agents hold leases, but the counter of stored transitions does not increase.

    The cause does not matter: agents that wait for a dead learner or for the rate limiter need attention as much as
    agents that hang.
    """

    def __init__(self, stall_s: float) -> None:
        """Warn after ``stall_s`` seconds without an insert."""
        self._stall_s = stall_s
        self._inserted: int | None = None
        self._since_s = 0.0

    def look(self, replay: ReplayState | None, now_s: float) -> Condition | None:
        """Record the memory at ``now_s``; None means that it is not visible, which restarts the clock."""
        if replay is None or replay.stats is None or not replay.agents:
            self._inserted = None
            return None
        if replay.stats.inserted != self._inserted:
            self._inserted, self._since_s = replay.stats.inserted, now_s
        still_s = now_s - self._since_s
        if still_s < self._stall_s:
            return None
        return Condition(
            "inserts_stalled",
            f"no transition was stored for {still_s:.0f} s; agents alive: {replay.agents}",
            round(still_s, 3),
            self._stall_s,
        )
