"""Check whether a capacity fits the server's memory."""

from dataclasses import dataclass
from typing import Any, Self

import structlog

from borgcore.errors import SettingsError
from borgcore.replay.transitions import ReplaySpec

MEASURABLE_SIZE = 1_000  # transitions; with fewer, their mean size is not representative
_INDEX_BYTES = 150  # per transition: hash entry, sorted set entry
# Share of the raw frames, a middle value. Measured at 84x84, n = 3, bytes per transition: Pong 561, Seaquest 1037,
# Qbert 1725, Space Invaders 1899, Enduro 2775; the estimate for each is 1385. Half of the server's memory stays free,
# which covers the largest of them.
_COMPRESSED_SHARE = 0.025
_log = structlog.get_logger(__name__)


def estimated_bytes(spec: ReplaySpec) -> float:
    """Return the expected bytes per transition, before any is stored."""
    return _INDEX_BYTES + _COMPRESSED_SHARE * spec.frames(spec.n) * spec.height * spec.width


@dataclass(frozen=True, slots=True)
class MemoryBudget:
    """The server's memory limit, half of which the replay memory may use: a fork copies on write."""

    maxmemory: int  # bytes; 0: no limit
    policy: str  # what it does at the limit
    address: str

    @classmethod
    def of(cls, memory: dict[str, Any], address: str) -> Self:
        """Read the answer to INFO memory."""
        return cls(int(memory.get("maxmemory", 0)), str(memory.get("maxmemory_policy", "noeviction")), address)

    def check_policy(self) -> None:
        """Refuse a server that would evict transitions.

        Raises:
            SettingsError: its policy is not noeviction.
        """
        if self.maxmemory and self.policy != "noeviction":
            raise SettingsError(
                f"Redis at {self.address} has maxmemory-policy {self.policy}, which would evict parts of the replay "
                "memory; expected noeviction"
            )

    def check(self, capacity: int, bytes_each: float) -> None:
        """Refuse to start a memory that would not fit.

        Raises:
            SettingsError: it needs more than half of maxmemory.
        """
        if not self._fits(capacity, bytes_each):
            raise SettingsError(
                f"replay capacity: {capacity} transitions of about {bytes_each:.0f} bytes need "
                f"{capacity * bytes_each:.0f} bytes, more than half of the maxmemory of {self.maxmemory} bytes of "
                f"Redis at {self.address} (a fork copies on write); "
                f"at most {int(self.maxmemory / 2 / bytes_each)} fit"
            )

    def warn(self, capacity: int, bytes_each: float) -> None:
        """Log that a memory in use will not fit; refusing it would lose the transitions it holds."""
        if not self._fits(capacity, bytes_each):
            _log.warning(
                "replay_budget_exceeded",
                address=self.address,
                capacity=capacity,
                bytes_per_transition=round(bytes_each),
                needed_bytes=round(capacity * bytes_each),
                maxmemory_bytes=self.maxmemory,
                consequence="the server may run out of memory before all transitions are stored; raise its maxmemory",
            )

    def _fits(self, capacity: int, bytes_each: float) -> bool:
        return self.maxmemory == 0 or capacity * bytes_each <= self.maxmemory / 2
