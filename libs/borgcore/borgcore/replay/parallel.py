"""Split work on rows among several threads."""

from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

import anyio
from anyio import CapacityLimiter, to_thread

ROWS_PER_THREAD = 64  # fewer are not worth a thread of their own
T = TypeVar("T")


async def run_parallel(count: int, work: Callable[[slice], T], threads: CapacityLimiter) -> list[T]:
    """Run ``work`` on slices of ``count`` rows, one per thread of ``threads``; return the results in order."""
    parts = max(1, min(int(threads.total_tokens), count // ROWS_PER_THREAD))
    if parts == 1:
        return [await to_thread.run_sync(work, slice(0, count), limiter=threads)]
    bounds = [count * part // parts for part in range(parts + 1)]
    outcomes: list[Future[T]] = [Future() for _ in range(parts)]

    async def run(part: int) -> None:
        rows = slice(bounds[part], bounds[part + 1])
        try:
            outcomes[part].set_result(await to_thread.run_sync(work, rows, limiter=threads))
        except Exception as error:  # noqa: BLE001 - raised below; a task group would wrap it in an exception group
            outcomes[part].set_exception(error)

    async with anyio.create_task_group() as group:
        for part in range(parts):
            group.start_soon(run, part)
    return [outcome.result() for outcome in outcomes]
