"""Closing aiokafka's clients within bounds, also while the server is away.

Their own ``stop`` flushes for ever, waits for replies that may never come, works only once, and raises the
cancellation of its own tasks as if it were ours. So each step runs in a task of its own.
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

CLOSE_S = 0.2  # for each step, and again for its cancellation; while the server is there, a few milliseconds are enough


async def close_admin(admin: AIOKafkaAdminClient) -> None:
    """Close a client for questions."""
    await _finish(admin.close())


async def close_producer(producer: AIOKafkaProducer) -> None:
    """Give a producer up; what was not acknowledged may have arrived or not."""
    await _finish(producer._sender.close())  # noqa: SLF001  # there is no public way, here and below
    accumulator = producer._message_accumulator  # noqa: SLF001  # see above
    left = [*accumulator._pending_batches, *chain.from_iterable(accumulator._batches.values())]  # noqa: SLF001  # see above
    accumulator._pending_batches.update(left)  # noqa: SLF001  # see above; one to be sent again is not there, and missed
    accumulator.fail_all(KafkaConnectionError("given up"))  # else stop waits for them
    for future in chain.from_iterable((batch.future, batch._drain_waiter) for batch in left):  # noqa: SLF001  # see above
        if future.done() and not future.cancelled():
            future.exception()  # asyncio complains of what nobody looks at
    if not await _finish(producer.stop()):
        await _finish(producer.client.close())


async def close_consumer(consumer: AIOKafkaConsumer) -> None:
    """Close a member of a group; its position is kept for a successor of the same name."""
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
    """Tell whether it ended well within ``CLOSE_S``; where it did not end, it is cancelled."""
    task = asyncio.ensure_future(step)
    with CancelScope(shield=True):
        await asyncio.wait({task}, timeout=CLOSE_S)
        if not task.done():
            task.cancel()
            await asyncio.wait({task}, timeout=CLOSE_S)
    return task.done() and not task.cancelled() and task.exception() is None
