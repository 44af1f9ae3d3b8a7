import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from borgcore.errors import CorruptDataError
from borgcore.replay.sampling import importance_weights, scores, stratified


@given(st.integers(1, 2000), st.integers(0, 2**32 - 1))
def test_every_stratum_gets_one_variate_below_one(count: int, seed: int) -> None:
    variates = stratified(np.random.default_rng(seed), count)
    assert np.array_equal(np.minimum(np.floor(variates * count + 1e-9), count - 1), np.arange(count))
    assert variates.max() < 1.0


@given(st.lists(st.floats(0, 1e9), min_size=2, max_size=50, unique=True))
def test_scores_keep_the_order_of_priorities_that_differ_by_more_than_the_jitter(priorities: list[float]) -> None:
    ordered = sorted(priorities)
    spread = [one for one, other in zip(ordered, [*ordered[1:], np.inf], strict=True) if other > one * 1.01 + 1e-6]
    found = [float(score) for score in scores(np.random.default_rng(0), spread)]
    assert found == sorted(found)


def test_equal_priorities_get_different_scores_but_for_a_few_also_when_they_are_zero() -> None:
    for priority in (0.0, 1.0):
        found = scores(np.random.default_rng(0), np.full(10_000, priority))
        assert len(set(found)) > 9_900
        assert min(float(score) for score in found) > 0.0


def test_the_sign_of_a_td_error_does_not_matter() -> None:
    assert scores(np.random.default_rng(0), [-2.0]) == scores(np.random.default_rng(0), [2.0])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_td_error_that_is_not_finite_is_refused_by_count(bad: float) -> None:
    with pytest.raises(CorruptDataError, match="1 of 3 are not finite"):
        scores(np.random.default_rng(0), [1.0, bad, 0.5])


def test_importance_weights_make_rare_draws_heaviest_and_are_all_one_without_beta() -> None:
    probabilities = np.array([0.4, 0.1, 0.2])
    assert importance_weights(probabilities, 1.0) == pytest.approx([0.25, 1.0, 0.5])
    assert importance_weights(probabilities, 0.0) == pytest.approx([1.0, 1.0, 1.0])
