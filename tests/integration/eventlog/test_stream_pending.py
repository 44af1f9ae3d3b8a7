import random
from collections.abc import Mapping
from typing import TypeVar

import anyio
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from borgcore.eventlog.protocol import Chunk
from borgcore.eventlog.streams.consumer import StreamConsumer, open_stream_consumer
from borgcore.eventlog.streams.group import Claim, Entry, StreamGroup
from borgcore.eventlog.streams.sender import open_stream_sender
from borgcore.run.keys import RunKeys
from borgcore.settings.sections import EventsSettings
from tests.limits import HANG_S

from .stream_log import TOPICS, TRAINING, end_of, fetch_all, numbered, numbers_in

DEAD_S = 0.5
T = TypeVar("T")


class LossyGroup(StreamGroup):
    """Loses the reply of a call after the server has answered it."""

    lost = 0
    lose = False

    async def read(self, after: Mapping[str, str], entries: int, block_ms: int | None = None) -> dict[str, list[Entry]]:
        return self._lossy(await super().read(after, entries, block_ms))

    async def reclaim(self, topic: str, dead_ms: int, entries: int) -> Claim | None:
        return self._lossy(await super().reclaim(topic, dead_ms, entries))

    def _lossy(self, reply: T) -> T:
        self.lose = bool(reply) and not self.lose
        if self.lose:
            self.lost += 1
            raise RedisConnectionError("lost")
        return reply


async def test_entries_whose_delivery_was_lost_on_the_way_are_handed_out_once(
    settings: EventsSettings, run: str, redis: Redis
) -> None:
    with anyio.fail_after(HANG_S):
        async with open_stream_sender(settings, run) as sender:
            await sender.send(numbered(TRAINING, range(20)))
            async with open_stream_consumer(settings, run, TOPICS, group="g", member="dead") as dead:
                await fetch_all(dead, 10, at_once=20)
        group = LossyGroup(redis, RunKeys(run), TOPICS, group="g", member="m")
        consumer = StreamConsumer(group, settings, dead_after_s=DEAD_S)
        chunks = await fetch_all(consumer, 20, at_once=8)
        assert sorted(numbers_in(chunks)) == list(range(20))
        assert await consumer.fetch(10, 2 * DEAD_S) == []
        assert group.lost >= 3
        await consumer.commit(end_of(chunks))
        assert await consumer.lag() == 0


class SlowGroup(StreamGroup):
    """Holds the reply of a second look at what is pending back until told."""

    looks = 0
    asked: anyio.Event
    looked: anyio.Event
    told: anyio.Event

    async def read(self, after: Mapping[str, str], entries: int, block_ms: int | None = None) -> dict[str, list[Entry]]:
        self.asked.set()
        reply = await super().read(after, entries, block_ms)
        if set(after.values()) == {"0"}:
            self.looks += 1
            if self.looks == 2:
                self.looked.set()
                await self.told.wait()
        return reply


async def test_what_is_committed_during_a_look_at_what_is_pending_is_not_handed_out_again(
    settings: EventsSettings, run: str, redis: Redis
) -> None:
    group = SlowGroup(redis, RunKeys(run), TOPICS, group="g", member="m")
    group.asked, group.looked, group.told = anyio.Event(), anyio.Event(), anyio.Event()
    chunks = list[Chunk]()

    async def look() -> None:
        chunks.extend(await consumer.fetch(10, 0.1))

    with anyio.fail_after(HANG_S):
        async with open_stream_sender(settings, run) as sender:
            await group.create()
            await sender.send(numbered(TRAINING, range(5)))
        consumer = StreamConsumer(group, settings, dead_after_s=HANG_S)
        held = await fetch_all(consumer, 5)
        group.asked = anyio.Event()
        async with anyio.create_task_group() as cancelled:  # so what is pending is looked at again
            cancelled.start_soon(consumer.fetch, 10, HANG_S)
            await group.asked.wait()
            cancelled.cancel_scope.cancel()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(look)
            await group.looked.wait()
            tasks.start_soon(consumer.commit, end_of(held))
            with anyio.move_on_after(0.05):
                while await consumer.lag():  # noqa: ASYNC110  # a reply has no event
                    await anyio.sleep(0.001)
            group.told.set()
        assert chunks == []
        assert await consumer.lag() == 0


async def test_fetches_cancelled_at_any_moment_lose_nothing_and_double_nothing(
    settings: EventsSettings, run: str
) -> None:
    chunks = []
    with anyio.fail_after(HANG_S):
        async with (
            open_stream_sender(settings, run) as sender,
            open_stream_consumer(settings, run, TOPICS, group="g", member="m") as consumer,
        ):
            for number in range(150):
                await sender.send(numbered(TRAINING, [number]))
                with anyio.move_on_after(random.uniform(0.0, 0.002)):
                    chunks += await consumer.fetch(4, 0.1)
            while await consumer.lag() > len(numbers_in(chunks)) or len(numbers_in(chunks)) < 150:
                chunks += await consumer.fetch(100, 0.1)
            assert sorted(numbers_in(chunks)) == list(range(150))
            assert await consumer.fetch(10, 0.1) == []
