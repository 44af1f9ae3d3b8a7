"""Measured rates, and the medians that bench.replay prints."""

import os
import statistics
import time
from collections.abc import Awaitable, Callable
from typing import Any

import anyio

from bench.shared.lines import print_metric

IN_FLIGHT = 2  # concurrent calls of the one process: one on its way while another is decoded


def report(subject: str, metric: str, values: list[float], unit: str, **params: Any) -> None:
    """Print the median of ``values``."""
    machine = {"cpus": os.cpu_count(), "aof": "everysec", "rounds": len(values)}
    print_metric("replay", metric, round(statistics.median(values), 1), unit, params | machine, subject=subject)


async def rates_of(work: Callable[[], Awaitable[int]], rounds: int, seconds: float) -> list[float]:
    """Repeat ``work``, ``IN_FLIGHT`` calls at once, for ``seconds`` a round; return each round's count per second."""
    return [await _rate(work, seconds) for _ in range(rounds)]


async def _rate(work: Callable[[], Awaitable[int]], seconds: float) -> float:
    done = 0
    begin = time.perf_counter()

    async def repeat() -> None:
        nonlocal done
        while time.perf_counter() < begin + seconds:
            count = await work()  # on its own line: += would read `done` before the await
            done += count

    async with anyio.create_task_group() as group:
        for _ in range(IN_FLIGHT):
            group.start_soon(repeat)
    return done / (time.perf_counter() - begin)


def blocking_rates_of(work: Callable[[], object], count: int, rounds: int, seconds: float) -> list[float]:
    """Repeat blocking ``work`` that handles ``count`` transitions a call; return transitions per second."""
    rates = []
    for _ in range(rounds):
        done, begin = 0, time.perf_counter()
        while time.perf_counter() < begin + seconds:
            work()
            done += count
        rates.append(done / (time.perf_counter() - begin))
    return rates
