"""Split work on rows among several threads."""

from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

import anyio
from anyio import CapacityLimiter, to_thread

ROWS_PER_THREAD = 64  # fewer are not worth starting a thread
T = TypeVar("T")


async def run_parallel(count: int, work: Callable[[slice], T], threads: CapacityLimiter) -> list[T]:
    """Run ``work`` on slices of ``count`` rows, one per thread of ``threads``; return the results in order."""
    pieces = max(1, min(int(threads.total_tokens), count // ROWS_PER_THREAD))
    if pieces == 1:
        return [await to_thread.run_sync(work, slice(0, count), limiter=threads)]
    bounds = [count * piece // pieces for piece in range(pieces + 1)]
    outcomes: list[Future[T]] = [Future() for _ in range(pieces)]

    async def run(piece: int) -> None:
        rows = slice(bounds[piece], bounds[piece + 1])
        try:
            outcomes[piece].set_result(await to_thread.run_sync(work, rows, limiter=threads))
        except Exception as error:  # noqa: BLE001 - raised below, alone: a task group would wrap it
            outcomes[piece].set_exception(error)

    async with anyio.create_task_group() as group:
        for piece in range(pieces):
            group.start_soon(run, piece)
    return [outcome.result() for outcome in outcomes]
