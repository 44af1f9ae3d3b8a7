"""Periodic times for sampling or reporting: multiples of the period since the start, so that they do not drift."""

import math

import anyio


class Ticker:
    """Waits for the next tick; ticks that passed meanwhile are skipped and counted."""

    def __init__(self, period_s: float) -> None:
        """Make the first tick due now."""
        self.missed = 0
        self._period_s = period_s
        self._next_s = anyio.current_time()

    async def wait(self) -> None:
        """Return at the next tick."""
        late = max(0, math.floor((anyio.current_time() - self._next_s) / self._period_s))
        self.missed += late
        self._next_s += (late + 1) * self._period_s
        await anyio.sleep_until(self._next_s)
