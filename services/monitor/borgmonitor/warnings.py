"""Publish a warning when it begins and when it ends, not at every sample."""

from collections.abc import Callable, Collection
from dataclasses import dataclass

import structlog

from borgcore.events.monitoring import MemoryWarned
from borgcore.events.schema import Event
from borgmonitor.conditions import Condition, Kind

_LINGERING: Collection[Kind] = ("keys_evicted", "memory_high")  # momentary, end after a delay; the others are states
_log = structlog.get_logger()


@dataclass(slots=True)
class _Active:
    condition: Condition
    began_s: float
    seen_s: float


class Warnings:
    """Active conditions, by server."""

    def __init__(self, publish: Callable[[Event], None], clear_s: float) -> None:
        """A momentary condition ends once it has not been seen for ``clear_s`` seconds."""
        self._publish = publish
        self._clear_s = clear_s
        self._active: dict[tuple[str, Kind], _Active] = {}

    @property
    def active(self) -> list[tuple[str, Kind]]:
        """Server and kind of every active condition."""
        return list(self._active)

    def add(self, node: str, conditions: Collection[Condition], now_s: float) -> None:
        """Add conditions that hold; others are unknown and stay as they are."""
        for condition in conditions:
            active = self._active.get((node, condition.kind))
            if active is not None:
                active.seen_s = now_s
                continue
            self._active[node, condition.kind] = _Active(condition, now_s, now_s)
            _log.warning("warning_raised", node=node, kind=condition.kind, reason=condition.text)
            self._publish_state(node, condition, "onset")

    def replace(self, node: str, conditions: Collection[Condition], now_s: float) -> None:
        """Set all conditions that hold; end the others."""
        self.add(node, conditions, now_s)
        holding = {condition.kind for condition in conditions}
        for key, active in list(self._active.items()):
            wait_s = self._clear_s if key[1] in _LINGERING else 0.0
            if key[0] == node and key[1] not in holding and now_s - active.seen_s >= wait_s:
                self._end(key, now_s)

    def keep(self, nodes: Collection[str], now_s: float) -> None:
        """End the warnings of servers that are no longer polled."""
        for key in list(self._active):
            if key[0] not in nodes:
                self._end(key, now_s)

    def _end(self, key: tuple[str, Kind], now_s: float) -> None:
        active = self._active.pop(key)
        duration_s = round(now_s - active.began_s, 3)
        _log.info("warning_cleared", node=key[0], kind=key[1], duration_s=duration_s)
        self._publish_state(key[0], active.condition, "clear", duration_s)

    def _publish_state(self, node: str, condition: Condition, state: str, duration_s: float | None = None) -> None:
        self._publish(
            MemoryWarned(
                node=node,
                kind=condition.kind,
                state=state,
                text=condition.text,
                value=condition.value,
                limit=condition.limit,
                duration_s=duration_s,
            )
        )
