import pytest
from pydantic import ValidationError

from borgcore.replay.settings import ReplaySettings


def test_a_memory_that_could_never_hold_enough_for_a_sample_is_refused_naming_both_numbers() -> None:
    ReplaySettings(capacity=100, min_size=100)
    with pytest.raises(ValidationError, match=r"capacity is 99, below min_size 100: .* or lower min_size, too"):
        ReplaySettings(capacity=99, min_size=100)
