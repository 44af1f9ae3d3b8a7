import pytest

from borgcore.errors import SettingsError
from borgcore.replay.limiter import Limiter, Stopwatch
from borgcore.replay.settings import ReplaySettings


def test_the_bounds_are_those_of_reverb_around_the_smallest_memory() -> None:
    limiter = Limiter(ReplaySettings(min_size=100, samples_per_insert=8.0, error_buffer=50.0))
    assert (limiter.min_diff, limiter.max_diff) == (750.0, 850.0)
    assert limiter.spare_diff == 800.0


def test_a_batch_that_would_lock_learner_and_actors_is_refused_naming_the_buffer() -> None:
    limiter = Limiter(ReplaySettings(min_size=100, samples_per_insert=8.0, error_buffer=50.0))
    limiter.check_batch(92)
    with pytest.raises(SettingsError, match=r"error_buffer: 50 samples, at least 50\.5 are needed for batches of 93"):
        limiter.check_batch(93)


def test_a_buffer_below_one_insert_is_refused_at_once() -> None:
    with pytest.raises(SettingsError, match="error_buffer"):
        Limiter(ReplaySettings(samples_per_insert=8.0, error_buffer=2.0))


def test_without_a_ratio_any_batch_goes() -> None:
    Limiter(ReplaySettings(samples_per_insert=0.0, error_buffer=1.0)).check_batch(10_000)


def test_overlapping_waits_count_once_and_a_wait_in_progress_counts() -> None:
    watch = Stopwatch()
    assert (watch.running, watch.seconds) == (False, 0.0)
    with watch.wait():
        assert watch.running
        first = watch.seconds
        with watch.wait():
            assert watch.seconds >= first
        assert watch.running
    assert not watch.running
    assert watch.seconds == watch.seconds
