from typing import Any

import anyio
import pytest
from redis.asyncio import Redis
from redis.asyncio.client import Pipeline

from borgcore.errors import EventLogError
from borgcore.eventlog.streams import consumer as stream_consumer
from borgcore.eventlog.streams.consumer import open_stream_consumer
from borgcore.eventlog.streams.sender import StreamSender, open_stream_sender
from borgcore.run.keys import RunKeys
from borgcore.settings.sections import EventsSettings, RedisSettings
from tests.limits import HANG_S

from .stream_log import MEMORY, TOPICS, TRAINING, end_of, fetch_all, numbered, numbers_in, report_trimmed

CAP = 50


@pytest.fixture
def settings(redis_settings: RedisSettings, monkeypatch: pytest.MonkeyPatch) -> EventsSettings:
    monkeypatch.setattr(stream_consumer, "TRIM_PERIOD_S", 0.0)
    return EventsSettings(url=redis_settings.url, stream_cap=CAP)


async def left(redis: Any, run: str, topic: str = TRAINING) -> list[int]:
    return [int(fields[b"v"]) for _, fields in await redis.xrange(RunKeys(run).events(topic))]


async def told(redis: Any, run: str) -> dict[str, list[int]]:
    """What the events in the stream ``told`` say, by topic."""
    found: dict[str, list[int]] = {}
    for _, fields in await redis.xrange(RunKeys(run).events("told")):
        topic, entries = fields[b"v"].decode().split()
        found.setdefault(topic, []).append(int(entries))
    return found


async def test_past_the_cap_the_oldest_go_and_are_counted_exactly_once_by_topic(
    settings: EventsSettings, run: str, redis: Redis
) -> None:
    with anyio.fail_after(HANG_S):
        async with open_stream_sender(settings, run) as sender, open_stream_sender(settings, run) as other:
            await sender.send(numbered(TRAINING, range(CAP)) + numbered(MEMORY, range(CAP + 3)))
            assert await report_trimmed(sender) == {MEMORY: 3}
            await other.send(numbered(TRAINING, range(CAP, CAP + 7)))
            await sender.send(numbered(TRAINING, range(CAP + 7, CAP + 9)) + numbered(MEMORY, [CAP + 3]))
            assert await left(redis, run) == list(range(9, CAP + 9))
            assert await left(redis, run, MEMORY) == list(range(4, CAP + 4))
            assert await report_trimmed(other) == {TRAINING: 9, MEMORY: 1}
            assert await report_trimmed(sender) == {}


async def test_trimmed_entries_are_reported_once_however_many_report_at_once(
    settings: EventsSettings, run: str, redis: Redis
) -> None:
    found: list[int] = []

    async def tell(sender: StreamSender) -> None:
        found.extend((await report_trimmed(sender)).values())

    with anyio.fail_after(HANG_S):
        async with open_stream_sender(settings, run) as sender, open_stream_sender(settings, run) as other:
            await sender.send(numbered(TRAINING, range(CAP + 7)) + numbered(MEMORY, range(CAP + 3)))
            async with anyio.create_task_group() as group:
                for one in (sender, other, sender, other):
                    group.start_soon(tell, one)
            assert await told(redis, run) == {TRAINING: [7], MEMORY: [3]}
            assert sorted(found) == [3, 7]
            await sender.send(numbered(TRAINING, range(2)))
            await report_trimmed(other)
            assert await told(redis, run) == {TRAINING: [7, 2], MEMORY: [3]}


@pytest.mark.parametrize("lost", [1, 2], ids=["the reply with the counters", "the reply after it was told"])
async def test_a_lost_reply_to_a_report_neither_loses_nor_doubles_trimmed_entries(
    settings: EventsSettings, run: str, redis: Redis, lost: int
) -> None:
    class LossySender(StreamSender):
        calls = 0

        async def _execute(self, pipe: Pipeline) -> list[Any]:
            replies = await super()._execute(pipe)
            self.calls += 1
            if self.calls == lost:
                raise EventLogError("lost")
            return replies

    with anyio.fail_after(HANG_S):
        async with open_stream_sender(settings, run) as sender:
            await sender.send(numbered(TRAINING, range(CAP + 7)))
            with pytest.raises(EventLogError, match="lost"):
                await report_trimmed(LossySender(redis, run, RedisSettings(), CAP))
            await report_trimmed(sender)
            assert await told(redis, run) == {TRAINING: [7]}


async def test_entries_trimmed_during_a_report_are_reported_by_the_next(
    settings: EventsSettings, run: str, redis: Redis
) -> None:
    class BusySender(StreamSender):
        async def _execute(self, pipe: Pipeline) -> list[Any]:
            replies = await super()._execute(pipe)
            await sender.send(numbered(TRAINING, range(2)))
            return replies

    with anyio.fail_after(HANG_S):
        async with open_stream_sender(settings, run) as sender:
            await sender.send(numbered(TRAINING, range(CAP + 7)))
            assert await report_trimmed(BusySender(redis, run, RedisSettings(), CAP)) == {TRAINING: 7}
            assert await report_trimmed(sender) == {TRAINING: 4}
            assert await told(redis, run) == {TRAINING: [7, 4]}


async def test_acknowledged_entries_go_uncounted_before_any_other(
    settings: EventsSettings, run: str, redis: Redis
) -> None:
    with anyio.fail_after(HANG_S):
        async with (
            open_stream_sender(settings, run) as sender,
            open_stream_consumer(settings, run, TOPICS, group="g", member="m") as consumer,
        ):
            await sender.send(numbered(TRAINING, range(CAP)))
            await consumer.commit(end_of(await fetch_all(consumer, 20, at_once=40)))
            await sender.send(numbered(TRAINING, range(CAP, CAP + 20)))
            assert await left(redis, run) == list(range(20, CAP + 20))
            assert await report_trimmed(sender) == {}
            await sender.send(numbered(TRAINING, range(CAP + 20, CAP + 21)))
            assert await left(redis, run) == list(range(21, CAP + 21))
            assert await report_trimmed(sender) == {TRAINING: 1}


async def test_all_that_was_read_and_acknowledged_leaves_an_empty_stream(
    settings: EventsSettings, run: str, redis: Redis
) -> None:
    with anyio.fail_after(HANG_S):
        async with (
            open_stream_sender(settings, run) as sender,
            open_stream_consumer(settings, run, TOPICS, group="g", member="m") as consumer,
        ):
            await sender.send(numbered(TRAINING, range(30)))
            chunks = await fetch_all(consumer, 30, at_once=20)
            await consumer.fetch(1, 0.0)
            assert await left(redis, run) == list(range(30))
            await consumer.commit(end_of(chunks[:2]))
            await consumer.fetch(1, 0.0)
            assert await left(redis, run) == list(range(20, 30))
            await consumer.commit(end_of(chunks))
            consumer.pause()
            await consumer.fetch(1, 0.0)
            assert await left(redis, run) == []
            await sender.send(numbered(TRAINING, [30]))
            consumer.resume()
            assert numbers_in(await fetch_all(consumer, 1)) == [30]


async def test_the_slowest_group_and_the_slowest_member_hold_the_trim(
    settings: EventsSettings, run: str, redis: Redis
) -> None:
    with anyio.fail_after(HANG_S):
        async with (
            open_stream_sender(settings, run) as sender,
            open_stream_consumer(settings, run, TOPICS, group="g", member="slow") as slow,
            open_stream_consumer(settings, run, TOPICS, group="g", member="fast") as fast,
            open_stream_consumer(settings, run, TOPICS, group="other", member="m") as other,
        ):
            await sender.send(numbered(TRAINING, range(40)))
            await other.commit(end_of(await fetch_all(other, 30, at_once=60)))
            held = await fetch_all(slow, 10, at_once=20)
            taken = await fetch_all(fast, 30)
            await fast.commit(end_of(taken))
            await fast.fetch(1, 0.0)
            assert await left(redis, run) == list(range(40))
            await slow.commit(end_of(held))
            await slow.fetch(1, 0.0)
            assert await left(redis, run) == list(range(30, 40))
            await other.commit(end_of(await fetch_all(other, 10)))
            await other.fetch(1, 0.0)
            assert await left(redis, run) == []
            assert await report_trimmed(sender) == {}


async def test_entries_trimmed_while_pending_are_counted_and_stall_nothing(
    settings: EventsSettings, run: str, redis: Redis
) -> None:
    with anyio.fail_after(HANG_S):
        async with open_stream_sender(settings, run) as sender:
            await sender.send(numbered(TRAINING, range(10)))
            async with open_stream_consumer(settings, run, TOPICS, group="g", member="m") as consumer:
                held = await fetch_all(consumer, 10)
                await sender.send(numbered(TRAINING, range(10, CAP + 5)))
                assert await report_trimmed(sender) == {TRAINING: 5}
                assert numbers_in(held) == list(range(10))
            async with open_stream_consumer(settings, run, TOPICS, group="g", member="m") as consumer:
                chunks = await fetch_all(consumer, CAP)
                assert numbers_in(chunks) == list(range(5, CAP + 5))
                await consumer.commit(end_of(chunks))
                assert await consumer.lag() == 0
                await consumer.fetch(1, 0.0)
            assert await left(redis, run) == []


async def test_a_reader_that_was_overtaken_by_the_cap_commits_what_it_holds(
    settings: EventsSettings, run: str, redis: Redis
) -> None:
    with anyio.fail_after(HANG_S):
        async with (
            open_stream_sender(settings, run) as sender,
            open_stream_consumer(settings, run, TOPICS, group="g", member="m") as consumer,
        ):
            await sender.send(numbered(TRAINING, range(10)))
            held = await fetch_all(consumer, 10)
            await sender.send(numbered(TRAINING, range(10, 10 + 2 * CAP)))
            assert await report_trimmed(sender) == {TRAINING: 10 + CAP}
            rest = await fetch_all(consumer, CAP)
            assert numbers_in(rest) == list(range(10 + CAP, 10 + 2 * CAP))
            await consumer.commit(end_of(held))
            assert await consumer.lag() == CAP
            await consumer.commit(end_of(rest))
            assert await consumer.lag() == 0
            await consumer.fetch(1, 0.0)
            assert await left(redis, run) == []


async def test_ids_larger_than_luas_numbers_are_compared_exactly(
    settings: EventsSettings, run: str, redis: Redis
) -> None:
    ids = ["5-9007199254740993", "5-9007199254740994", "18014398509481985-0", "18014398509481986-0"]
    key = RunKeys(run).events(TRAINING)
    with anyio.fail_after(HANG_S):
        for number, entry in enumerate(ids):
            await redis.xadd(key, {"v": str(number)}, id=entry)
        async with (
            open_stream_consumer(settings, run, TOPICS, group="ahead", member="m") as ahead,
            open_stream_consumer(settings, run, TOPICS, group="behind", member="m") as behind,
        ):
            await ahead.commit(end_of((await fetch_all(ahead, 4, at_once=2))[:3]))
            kept = []
            for chunk in await fetch_all(behind, 4, at_once=2):
                await behind.commit(end_of([chunk]))
                await behind.fetch(1, 0.0)
                kept.append(await left(redis, run))
            assert kept == [[1, 2, 3], [2, 3], [3], [3]]
