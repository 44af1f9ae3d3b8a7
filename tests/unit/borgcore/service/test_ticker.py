import time

import anyio
import pytest

from borgcore.service.ticker import Ticker
from tests.limits import HANG_S

PERIOD_S = 0.05


async def test_times_are_multiples_of_the_period_from_the_start_however_long_the_work_takes() -> None:
    with anyio.fail_after(HANG_S):
        ticker = Ticker(PERIOD_S)
        start_s = ticker._next_s
        for number in range(1, 5):
            time.sleep(0.01)  # noqa: ASYNC251  # the work: it holds up the loop
            await ticker.wait()
            assert anyio.current_time() >= start_s + number * PERIOD_S - 0.001
        assert ticker._next_s == pytest.approx(start_s + (4 + ticker.missed) * PERIOD_S, abs=1e-6)


async def test_times_that_went_by_are_skipped_and_counted() -> None:
    with anyio.fail_after(HANG_S):
        ticker = Ticker(PERIOD_S)
        start_s = ticker._next_s
        await anyio.sleep_until(start_s + 3.5 * PERIOD_S)
        await ticker.wait()
        assert ticker.missed >= 3
        assert ticker._next_s == pytest.approx(start_s + (1 + ticker.missed) * PERIOD_S, abs=1e-6)
        assert anyio.current_time() >= ticker._next_s - 0.001
