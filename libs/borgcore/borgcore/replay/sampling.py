"""The arithmetic of prioritised sampling: variates, scores, importance weights; Schaul et al. 2016, rank-based."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from borgcore.errors import CorruptDataError

PRIORITY_FLOOR = 1e-6  # a zero would tie with every other zero: the jitter is relative
JITTER = 1e-3  # relative; equal scores would be ordered by slot name, which biases the draw
_BELOW_ONE = np.nextafter(1.0, 0.0)


def stratified(rng: np.random.Generator, count: int) -> NDArray[np.float64]:
    """Return float64 (count,): variates in [0, 1), one from each of as many equal strata."""
    return np.minimum((np.arange(count) + rng.random(count)) / count, _BELOW_ONE)


def scores(rng: np.random.Generator, priorities: ArrayLike) -> list[bytes]:
    """Turn priorities into the scores of the sorted set; B = number of priorities.

    Args:
        rng: makes the jitter that keeps equal priorities apart.
        priorities: any float dtype, (B,), in units of the TD error; the sign does not matter.

    Returns:
        B decimals of 10 digits, as the server takes them: |priority|, raised by a floor, times 1..1.001.

    Raises:
        CorruptDataError: one is not finite.

    Source: Schaul et al. 2016, rank-based variant (section 3.3); floor and jitter are ours.
    """
    magnitude = np.abs(np.asarray(priorities, np.float64)).ravel()
    finite = np.isfinite(magnitude)
    if not finite.all():
        raise CorruptDataError(
            f"replay priorities: {len(finite) - int(finite.sum())} of {len(finite)} are not finite; none was stored"
        )
    jittered = (magnitude + PRIORITY_FLOOR) * (1.0 + JITTER * rng.random(len(magnitude)))
    # 10 digits: a million equal priorities still get almost as many different scores
    return [b"%.10g" % score for score in jittered.tolist()]


def importance_weights(probability_B: NDArray[np.float64], beta: float) -> NDArray[np.float64]:
    """Return (n P)^-beta, scaled so that the largest is 1; n, the memory's size, cancels out.

    Args:
        probability_B: float64 (B,), in (0, 1]: with which each sample of the batch was drawn.
        beta: 0 gives equal weights, 1 fully corrects the bias of the draw.

    Returns:
        float64 (B,), in (0, 1].

    Source: Schaul et al. 2016, section 3.4.
    """
    weight_B: NDArray[np.float64] = (probability_B / probability_B.min()) ** -beta
    return weight_B
