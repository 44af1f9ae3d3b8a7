"""Rates and their report: medians of rounds, one JSON line a metric."""

import os
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import orjson

IN_FLIGHT = 2  # calls at once from the one process: one on its way while another is decoded


def report(subject: str, metric: str, values: list[float], unit: str, **params: Any) -> None:
    """Print one result, the median."""
    machine = {"cpus": os.cpu_count(), "aof": "everysec", "rounds": len(values)}
    line = {
        "bench": "replay",
        "subject": subject,
        "metric": metric,
        "value": round(statistics.median(values), 1),
        "unit": unit,
        "params": params | machine,
    }
    print(orjson.dumps(line).decode(), flush=True)


def progress(text: str) -> None:
    """Say on standard error what is being done."""
    print(text, file=sys.stderr, flush=True)


async def rates_of(work: Callable[[], Awaitable[int]], rounds: int, seconds: float) -> list[float]:
    """Repeat ``work``, ``IN_FLIGHT`` at once, for ``seconds`` a round; return what it counts per second."""
    return [await _rate(work, seconds) for _ in range(rounds)]


async def _rate(work: Callable[[], Awaitable[int]], seconds: float) -> float:
    done = 0
    begin = time.perf_counter()

    async def repeat() -> None:
        nonlocal done
        while time.perf_counter() < begin + seconds:
            count = await work()  # apart: += would read the sum before the wait and lose what others add
            done += count

    async with anyio.create_task_group() as group:
        for _ in range(IN_FLIGHT):
            group.start_soon(repeat)
    return done / (time.perf_counter() - begin)


def blocking_rates_of(work: Callable[[], object], count: int, rounds: int, seconds: float) -> list[float]:
    """The rates of all rounds of blocking work that handles ``count`` transitions a call."""
    rates = []
    for _ in range(rounds):
        done, begin = 0, time.perf_counter()
        while time.perf_counter() < begin + seconds:
            work()
            done += count
        rates.append(done / (time.perf_counter() - begin))
    return rates
