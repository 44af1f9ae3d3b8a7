"""Whether a capacity fits the server's memory."""

from typing import Any

from borgcore.errors import SettingsError
from borgcore.transitions import ReplaySpec

MEASURABLE_SIZE = 1_000  # transitions; below, their mean size says little
_INDEX_BYTES = 150  # per transition: hash entry, sorted set entry
_COMPRESSED_SHARE = 0.01  # of the raw frames: Pong 0.009 at 84x84


def estimated_bytes(spec: ReplaySpec) -> float:
    """Bytes per transition before any is stored."""
    return _INDEX_BYTES + _COMPRESSED_SHARE * spec.frames(spec.n) * spec.height * spec.width


def check_room(memory: dict[str, Any], capacity: int, bytes_each: float, address: str) -> None:
    """Refuse a capacity that would not fit.

    Raises:
        SettingsError: it needs more than half of maxmemory, or the server would evict transitions.
    """
    maxmemory, policy = int(memory.get("maxmemory", 0)), str(memory.get("maxmemory_policy", "noeviction"))
    if maxmemory == 0:
        return
    if policy != "noeviction":
        raise SettingsError(
            f"Redis at {address} has maxmemory-policy {policy}, which would evict parts of the replay memory; "
            "expected noeviction"
        )
    if capacity * bytes_each > maxmemory / 2:
        raise SettingsError(
            f"replay capacity: {capacity} transitions of about {bytes_each:.0f} bytes need "
            f"{capacity * bytes_each:.0f} bytes, more than half of the maxmemory of {maxmemory} bytes of Redis at "
            f"{address} (a fork copies on write); "
            f"at most {int(maxmemory / 2 / bytes_each)} fit"
        )
