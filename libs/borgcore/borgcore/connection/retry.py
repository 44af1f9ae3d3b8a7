"""One policy for retries and outages: jittered waits up to a limit, and one log event at each end of an outage.

It knows no client library: the caller passes the predicate that decides which errors are an outage.
"""

import math
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

import anyio
import structlog

T = TypeVar("T")
_MAX_DOUBLINGS = 30  # keeps the power of two finite in an outage of any length
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Backoff:
    """Waits between tries, doubled with each failure."""

    first_s: float = 0.05
    limit_s: float = 1.0

    def wait_s(self, failures: int) -> float:
        """Return the wait after ``failures`` (at least 1) failed tries in a row, jittered to 50..100 %."""
        longest_s = min(self.first_s * 2.0 ** min(failures - 1, _MAX_DOUBLINGS), self.limit_s)
        return random.uniform(0.5, 1.0) * longest_s  # noqa: S311  # jitter, no secret


BACKOFF = Backoff()


class Outage:
    """The present outage of one subject, if any.

    It logs ``lost`` (a warning) once when it begins and ``regained`` once when it ends, however many tries fail
    in between; without event names it only keeps count.
    """

    def __init__(self, lost: str | None = None, regained: str | None = None, **fields: object) -> None:
        """Begin without an outage; ``fields`` are added to both log events."""
        self.failures = 0
        """Failed tries since the outage began."""
        self.error: Exception | None = None
        """The newest failure; None while there is no outage."""
        self._lost = lost
        self._regained = regained
        self._fields = fields
        self._began_s = 0.0

    @property
    def reason(self) -> str | None:
        """The newest failure as text; None while there is no outage."""
        return None if self.error is None else str(self.error)

    @property
    def duration_s(self) -> float:
        """Seconds since the outage began; 0 while there is none."""
        return 0.0 if self.error is None else time.monotonic() - self._began_s

    def record(self, error: Exception, *, began_s: float | None = None, **fields: object) -> None:
        """Count a failed try.

        The first one begins the outage, at ``began_s`` on the monotonic clock if given, and is logged with ``fields``.
        """
        if self.error is None:
            self._began_s = time.monotonic() if began_s is None else began_s
            if self._lost is not None:
                _log.warning(self._lost, **{"reason": str(error)} | self._fields | fields)
        self.error = error
        self.failures += 1

    def end(self, **fields: object) -> float:
        """End the outage, if there is one, and log it with ``fields``; return its seconds, rounded to milliseconds."""
        if self.error is None:
            return 0.0
        outage_s = round(self.duration_s, 3)
        self.error, self.failures = None, 0
        if self._regained is not None:
            _log.info(self._regained, outage_s=outage_s, **self._fields, **fields)
        return outage_s


async def retry_through_outage(
    call: Callable[[], Awaitable[T]],
    *,
    is_outage: Callable[[Exception], bool],
    backoff: Backoff = BACKOFF,
    give_up_after_s: float = math.inf,
    outage: Outage | None = None,
    failed: Exception | None = None,
) -> T:
    """Await ``call`` until it succeeds, waiting after each failure as ``backoff`` says.

    A failed call may have taken effect, so it must be safe to repeat. A caller for whom speed matters makes the first
    try itself and passes its error as ``failed``; the time to give up then counts from that failure.

    Raises:
        Exception: the newest error of ``call``. It is no outage, or the next try would have begun more than
            ``give_up_after_s`` seconds after this function was called.
    """
    deadline_s = time.monotonic() + give_up_after_s
    failures = 0
    while True:
        try:
            if failed is not None:
                raise failed  # noqa: TRY301  # handled below like a failure of our own try
            reply = await call()
        except Exception as error:
            if not is_outage(error):
                raise
            failed = None
            failures += 1
            if outage is not None:
                outage.record(error)
            wait_s = backoff.wait_s(failures)
            if time.monotonic() + wait_s > deadline_s:
                raise
        else:
            if outage is not None:
                outage.end()
            return reply
        await anyio.sleep(wait_s)
