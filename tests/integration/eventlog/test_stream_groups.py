import random
from collections import Counter

import anyio
from redis.asyncio import Redis

from borgcore.eventlog.streams.consumer import open_stream_consumer
from borgcore.eventlog.streams.sender import open_stream_sender
from borgcore.run.keys import RunKeys
from borgcore.settings.sections import EventsSettings, RedisSettings
from tests.limits import HANG_S

from .stream_log import MEMORY, TOPICS, TRAINING, end_of, fetch_all, numbered, numbers_in, report_trimmed

DEAD_S = 0.5
STALL_S = 3.0  # a living member may be silent for so long where the machine stalls


async def test_a_successor_of_the_same_name_gets_what_was_pending_first_and_exactly_once(
    settings: EventsSettings, run: str
) -> None:
    with anyio.fail_after(HANG_S):
        async with open_stream_sender(settings, run) as sender:
            await sender.send(numbered(TRAINING, range(50)) + numbered(MEMORY, range(3)))
            async with open_stream_consumer(settings, run, TOPICS, group="g", member="m") as consumer:
                chunks = await fetch_all(consumer, 53)
                head = next(chunk for chunk in chunks if chunk.partition.topic == TRAINING)
                await consumer.commit({head.partition: head.positions[19]})
            await sender.send(numbered(TRAINING, range(50, 60)))
        async with open_stream_consumer(settings, run, TOPICS, group="g", member="m") as consumer:
            chunks = await fetch_all(consumer, 43, at_once=10)
            assert numbers_in(chunks) == list(range(20, 60))
            assert numbers_in(chunks, MEMORY) == [0, 1, 2]
            assert await consumer.fetch(10, 0.1) == []
            await consumer.commit(end_of(chunks))
            assert await consumer.lag() == 0
        async with open_stream_consumer(settings, run, TOPICS, group="g", member="m") as consumer:
            assert await consumer.fetch(10, 0.1) == []


async def test_each_of_two_groups_gets_everything(settings: EventsSettings, run: str) -> None:
    with anyio.fail_after(HANG_S):
        async with (
            open_stream_sender(settings, run) as sender,
            open_stream_consumer(settings, run, TOPICS, group="one", member="m") as one,
            open_stream_consumer(settings, run, TOPICS, group="two", member="m") as two,
        ):
            await sender.send(numbered(TRAINING, range(20)))
            for consumer in (one, two):
                chunks = await fetch_all(consumer, 20)
                assert numbers_in(chunks) == list(range(20))
                await consumer.commit(end_of(chunks))
                assert await consumer.lag() == 0


async def test_living_members_keep_what_they_hold_however_long_also_while_paused(
    settings: EventsSettings, run: str
) -> None:
    with anyio.fail_after(HANG_S):
        async with (
            open_stream_sender(settings, run) as sender,
            open_stream_consumer(settings, run, TOPICS, group="g", member="a", dead_after_s=STALL_S) as a,
            open_stream_consumer(settings, run, TOPICS, group="g", member="b", dead_after_s=STALL_S) as b,
        ):
            await sender.send(numbered(TRAINING, range(20)))
            held = await a.fetch(20, 0.1) + await b.fetch(20, 0.1)
            assert sorted(numbers_in(held)) == list(range(20))
            b.pause()
            until = anyio.current_time() + 2 * STALL_S
            while anyio.current_time() < until:
                assert await a.fetch(20, STALL_S / 10) == []
                assert await b.fetch(20, STALL_S / 10) == []


async def test_a_dead_members_entries_go_to_one_living_member_and_are_committed_in_its_order(
    settings: EventsSettings, run: str, redis: Redis
) -> None:
    with anyio.fail_after(HANG_S):
        async with open_stream_sender(settings, run) as sender:
            await sender.send(numbered(TRAINING, range(30)) + numbered(MEMORY, range(4)))
            async with open_stream_consumer(settings, run, TOPICS, group="g", member="dead") as dead:
                await fetch_all(dead, 34)
            await sender.send(numbered(TRAINING, range(30, 40)))
        async with open_stream_consumer(
            settings, run, TOPICS, group="g", member="alive", dead_after_s=HANG_S
        ) as consumer:
            newer = await fetch_all(consumer, 10)
            assert numbers_in(newer) == list(range(30, 40))
            consumer._dead_after_s, consumer._check_at_s = DEAD_S, 0.0  # only now does it look for the dead
            older = await fetch_all(consumer, 34, at_once=16)
            assert numbers_in(older) == list(range(30))
            assert numbers_in(older, MEMORY) == [0, 1, 2, 3]
            assert await consumer.fetch(10, 2 * DEAD_S) == []
            await consumer.commit(end_of(newer))
            assert await consumer.lag() == 34
            await consumer.commit(end_of(older[:1]))
            assert await consumer.lag() == 34 - len(older[0].positions)
            await consumer.commit(end_of(older))
            assert await consumer.lag() == 0
        assert (await redis.xpending(RunKeys(run).events(TRAINING), "g"))["pending"] == 0


async def test_what_a_dead_member_held_and_the_cap_removed_stalls_nothing(
    redis_settings: RedisSettings, run: str
) -> None:
    settings = EventsSettings(url=redis_settings.url, stream_cap=5)
    with anyio.fail_after(HANG_S):
        async with open_stream_sender(settings, run) as sender:
            await sender.send(numbered(TRAINING, range(5)))
            async with open_stream_consumer(settings, run, TOPICS, group="g", member="dead") as dead:
                await fetch_all(dead, 5)
            await sender.send(numbered(TRAINING, range(5, 8)))
            assert await report_trimmed(sender) == {TRAINING: 3}
            async with open_stream_consumer(
                settings, run, TOPICS, group="g", member="alive", dead_after_s=DEAD_S
            ) as consumer:
                chunks = await fetch_all(consumer, 5)
                assert sorted(numbers_in(chunks)) == [3, 4, 5, 6, 7]
                await consumer.commit(end_of(chunks))
                assert await consumer.lag() == 0


async def test_members_that_share_die_and_come_back_commit_everything_exactly_once(
    settings: EventsSettings, run: str
) -> None:
    """A life ends with entries held; the next one of that name, or another member, gets them."""
    count, done = 1_500, Counter[int]()

    async def live(member: str, chance: random.Random) -> None:
        while len(done) < count:
            async with open_stream_consumer(
                settings, run, TOPICS, group="g", member=member, dead_after_s=HANG_S
            ) as consumer:
                for _ in range(chance.randint(1, 6)):
                    chunks = await consumer.fetch(chance.randint(1, 120), 0.05)
                    if chunks and chance.random() < 0.7:
                        await consumer.commit(end_of(chunks))
                        done.update(held.pop(member, []) + numbers_in(chunks))
                    else:
                        held.setdefault(member, []).extend(numbers_in(chunks))
            held.pop(member, None)

    held: dict[str, list[int]] = {}
    with anyio.fail_after(HANG_S):
        async with open_stream_sender(settings, run) as sender, anyio.create_task_group() as members:
            for seed, member in enumerate(("a", "b", "c")):
                members.start_soon(live, member, random.Random(seed))
            for first in range(0, count, 50):
                await sender.send(numbered(TRAINING, range(first, first + 50)))
    assert done == Counter(range(count))
