import pytest
from pydantic import ValidationError

from borgcore.replay.settings import ReplaySettings


def test_a_memory_that_could_never_hold_enough_for_a_sample_is_refused_naming_both_numbers() -> None:
    ReplaySettings(capacity=100, min_size=100)
    with pytest.raises(ValidationError, match=r"capacity is 99, below min_size 100: .* or lower min_size \(--replay"):
        ReplaySettings(capacity=99, min_size=100)


@pytest.mark.parametrize(
    ("progress", "alpha", "beta"),
    [(-1.0, 0.7, 0.4), (0.0, 0.7, 0.4), (0.5, 0.4, 0.7), (1.0, 0.1, 1.0), (2.0, 0.1, 1.0)],
)
def test_alpha_and_beta_are_annealed_linearly_and_stay_within_their_ends(
    progress: float, alpha: float, beta: float
) -> None:
    settings = ReplaySettings(alpha=0.7, alpha_end=0.1, beta_start=0.4, beta_end=1.0)
    assert settings.exponents(progress) == pytest.approx((alpha, beta))


@pytest.mark.parametrize(("alpha", "alpha_end", "last"), [(0.7, None, 0.7), (0.7, 0.0, 0.0), (0.0, 0.0, 0.0)])
def test_alpha_stays_where_no_end_is_given(alpha: float, alpha_end: float | None, last: float) -> None:
    assert ReplaySettings(alpha=alpha, alpha_end=alpha_end).exponents(1.0)[0] == pytest.approx(last)


def test_a_memory_that_keeps_no_priorities_cannot_end_with_them() -> None:
    with pytest.raises(ValidationError, match=r"alpha is 0 and alpha_end 0\.1: .*uniform keeps no priorities"):
        ReplaySettings(alpha=0.0, alpha_end=0.1)
