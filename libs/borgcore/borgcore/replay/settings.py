"""Settings of the replay memory; nested in a service's one settings class."""

from typing import Self

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from borgcore.settings.sections import Section


class ReplaySettings(Section):
    """The replay memory: its size, how it is sampled, and how long to wait for it."""

    capacity: PositiveInt = 1_000_000
    """Transitions kept, the oldest is overwritten; Mnih et al. 2015. One value for a whole run."""
    alpha: float = Field(0.7, ge=0.0, le=2.0)
    """Exponent of the priority when learning begins; 0 samples uniformly. Schaul et al. 2016, rank-based variant."""
    alpha_end: float | None = Field(None, ge=0.0, le=2.0)
    """Exponent of the priority when learning ends; alpha stays constant if not given."""
    beta_start: float = Field(0.5, ge=0.0, le=1.0)
    """Exponent of the importance weights when learning begins; Schaul et al. 2016, rank-based variant."""
    beta_end: float = Field(1.0, ge=0.0, le=1.0)
    """Exponent of the importance weights when learning ends; Schaul et al. 2016."""
    min_size: PositiveInt = 10_000
    """Transitions stored before the first sample is drawn; Cassirer et al. 2021 (Reverb), min_size_to_sample."""
    samples_per_insert: NonNegativeFloat = 8.0
    """Samples drawn per transition stored, over all agents; 0: no limit. 8 is 32 every 4 steps, Mnih et al. 2015."""
    error_buffer: PositiveFloat = 8_000.0
    """Samples by which the ratio may be off before one side waits; min_size * samples_per_insert / 10, as in Acme."""
    limiter_timeout_s: PositiveFloat = 10.0
    """Longest wait of one call for the rate limiter, seconds."""
    limiter_poll_s: PositiveFloat = 0.02
    """Period at which a waiting call asks the rate limiter again, seconds."""
    sample_timeout_s: PositiveFloat = 20.0
    """Longest time for one draw, seconds; includes retries, excludes waits for the limiter."""
    push_timeout_s: PositiveFloat = 20.0
    """Longest time to store transitions or priorities, retries included, seconds."""
    threads: PositiveInt = 2
    """Threads that compress and decompress frames."""
    seed: int | None = Field(None, ge=0)
    """Seed of the draws; from the operating system if not given."""

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if self.capacity < self.min_size:
            raise ValueError(
                f"capacity is {self.capacity}, below min_size {self.min_size}: learner and actors would wait for each "
                "other forever; raise the capacity or lower min_size (--replay.min-size or "
                "BORG_AGENT_REPLAY__MIN_SIZE)"
            )
        if self.alpha == 0.0 and self.alpha_end:
            raise ValueError(
                f"alpha is 0 and alpha_end {self.alpha_end:g}: a memory that begins uniform keeps no priorities; raise "
                "alpha above 0, or leave alpha_end out (--replay.alpha-end or BORG_AGENT_REPLAY__ALPHA_END)"
            )
        return self

    def exponents(self, progress: float) -> tuple[float, float]:
        """Return alpha and beta, annealed linearly over ``progress`` 0..1 of the learning and constant beyond."""
        progress = min(max(progress, 0.0), 1.0)
        alpha_end = self.alpha if self.alpha_end is None else self.alpha_end
        alpha = self.alpha + (alpha_end - self.alpha) * progress
        return alpha, self.beta_start + (self.beta_end - self.beta_start) * progress
