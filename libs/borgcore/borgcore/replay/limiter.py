"""Keep samples drawn and transitions stored near one ratio; the counters and the check are in Redis."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from borgcore.errors import SettingsError
from borgcore.replay.settings import ReplaySettings


class Limiter:
    """Bounds of Reverb's SampleToInsertRatio on inserted * samples_per_insert - sampled; Cassirer et al. 2021."""

    def __init__(self, settings: ReplaySettings) -> None:
        """Check that learner and actors can never wait for each other."""
        self.samples_per_insert = settings.samples_per_insert
        self.error_buffer = settings.error_buffer
        centre = settings.samples_per_insert * settings.min_size
        self.min_diff = centre - settings.error_buffer  # a draw may not go below
        self.max_diff = centre + settings.error_buffer  # above it, actors wait
        self.spare_diff = centre  # above it, an actor that gives way to others waits
        self.check_batch(1)

    def check_batch(self, batch_size: int) -> None:
        """Refuse a batch so large that learner and actors would wait for each other.

        Raises:
            SettingsError: the error buffer is too small for it.
        """
        needed = (batch_size + self.samples_per_insert) / 2
        if self.samples_per_insert and self.error_buffer < needed:
            raise SettingsError(
                f"replay error_buffer: {self.error_buffer:g} samples, at least {needed:g} are needed for batches of "
                f"{batch_size} at {self.samples_per_insert:g} samples per insert, or learner and actors would wait for "
                "each other"
            )


class Stopwatch:
    """Adds up the time during which at least one call waits."""

    def __init__(self) -> None:
        self._waiting = 0
        self._since_s = 0.0
        self._total_s = 0.0

    @property
    def running(self) -> bool:
        """Whether a call waits now."""
        return self._waiting > 0

    @property
    def seconds(self) -> float:
        """Time waited so far, including a wait in progress."""
        return self._total_s + (time.monotonic() - self._since_s if self._waiting else 0.0)

    @contextmanager
    def wait(self) -> Iterator[None]:
        """Count the body as waiting."""
        if not self._waiting:
            self._since_s = time.monotonic()
        self._waiting += 1
        try:
            yield
        finally:
            self._waiting -= 1
            if not self._waiting:
                self._total_s += time.monotonic() - self._since_s
