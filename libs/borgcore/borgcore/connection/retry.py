"""Waits between tries: jittered, growing, bounded."""

import random

BACKOFF_FIRST_S = 0.05
BACKOFF_LIMIT_S = 1.0


def backoff_s(failures: int) -> float:
    """Return a jittered wait before the try after ``failures`` failed ones."""
    return random.uniform(0.5, 1.0) * min(BACKOFF_FIRST_S * 2.0 ** min(failures - 1, 10), BACKOFF_LIMIT_S)  # noqa: S311
