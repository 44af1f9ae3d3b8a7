"""Times at which to sample or to report: multiples of the period from the start, so that nothing drifts."""

import math

import anyio


class Ticker:
    """Waits for the next time; those that went by meanwhile are skipped and counted."""

    def __init__(self, period_s: float) -> None:
        """Begin now."""
        self.missed = 0
        self._period_s = period_s
        self._next_s = anyio.current_time()

    async def wait(self) -> None:
        """Return at the next time."""
        late = max(0, math.floor((anyio.current_time() - self._next_s) / self._period_s))
        self.missed += late
        self._next_s += (late + 1) * self._period_s
        await anyio.sleep_until(self._next_s)
