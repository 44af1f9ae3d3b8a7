"""Closes aiokafka's clients in bounded time, even while the server is unavailable.

Their own ``stop`` may flush or wait for replies for ever, works only once, and raises the cancellation of its own
tasks as if it were ours. So each step runs in a task of its own.
"""

import asyncio
from collections.abc import Coroutine
from itertools import chain
from typing import Any

import anyio
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaConnectionError
from anyio import CancelScope

CLOSE_S = 0.2  # for each step, and again for its cancellation; a few milliseconds are enough with a server


async def close_admin(admin: AIOKafkaAdminClient) -> None:
    """Close an admin client."""
    await _finish(admin.close())


async def close_producer(producer: AIOKafkaProducer) -> None:
    """Close a producer; events that were not acknowledged may or may not have arrived."""
    await _finish(producer._sender.close())  # noqa: SLF001  # there is no public API, here and below
    accumulator = producer._message_accumulator  # noqa: SLF001  # see above
    left = [*accumulator._pending_batches, *chain.from_iterable(accumulator._batches.values())]  # noqa: SLF001  # see above
    accumulator._pending_batches.update(left)  # noqa: SLF001  # see above; fail_all would miss a batch to be retried
    accumulator.fail_all(KafkaConnectionError("given up"))  # otherwise stop waits for them
    for future in chain.from_iterable((batch.future, batch._drain_waiter) for batch in left):  # noqa: SLF001  # see above
        if future.done() and not future.cancelled():
            future.exception()  # otherwise asyncio logs that it was never retrieved
    if not await _finish(producer.stop()):
        await _finish(producer.client.close())


async def close_consumer(consumer: AIOKafkaConsumer) -> None:
    """Close a group member; its partitions are kept for a successor of the same name."""
    if await _finish(consumer.stop()):
        return
    steps = [consumer._client.close()]  # noqa: SLF001  # see above
    if consumer._coordinator is not None:  # noqa: SLF001  # see above
        steps.append(consumer._coordinator._stop_heartbeat_task())  # noqa: SLF001  # see above
        steps.append(consumer._coordinator._stop_commit_offsets_refresh_task())  # noqa: SLF001  # see above
    if consumer._fetcher is not None:  # noqa: SLF001  # see above
        steps.append(consumer._fetcher.close())  # noqa: SLF001  # see above
    async with anyio.create_task_group() as group:
        for step in steps:
            group.start_soon(_finish, step)


async def _finish(step: Coroutine[Any, Any, object]) -> bool:
    """Await ``step``, cancel it after ``CLOSE_S``, and return whether it succeeded in time."""
    task = asyncio.ensure_future(step)
    with CancelScope(shield=True):
        await asyncio.wait({task}, timeout=CLOSE_S)
        if not task.done():
            task.cancel()
            await asyncio.wait({task}, timeout=CLOSE_S)
    return task.done() and not task.cancelled() and task.exception() is None
