from typing import Any

import anyio
import pytest
from redis.asyncio import Redis

from borgcore.errors import EventLogError, SettingsError
from borgcore.eventlog.open import check_log
from borgcore.eventlog.protocol import Consumer, Outgoing, Partition
from borgcore.eventlog.streams import fetch_size
from borgcore.eventlog.streams.consumer import open_stream_consumer
from borgcore.eventlog.streams.sender import open_stream_sender
from borgcore.eventlog.streams.server import backlog
from borgcore.run.keys import RunKeys
from borgcore.settings.sections import EventsSettings, RedisSettings
from tests.limits import HANG_S

from .stream_log import MEMORY, TOPICS, TRAINING, end_of, fetch_all, numbered, numbers_in, report_trimmed


async def test_what_is_sent_is_read_in_order_with_its_time(settings: EventsSettings, run: str, redis: Redis) -> None:
    with anyio.fail_after(HANG_S):
        before_s = (await redis.time())[0]
        async with open_stream_sender(settings, run) as sender:
            await sender.send(numbered(TRAINING, range(300)) + numbered(MEMORY, range(5)))
            await sender.send(numbered(TRAINING, range(300, 400)))
        async with open_stream_consumer(settings, run, TOPICS, group="g", member="m") as consumer:
            chunks = await fetch_all(consumer, 405, at_once=64)
            assert numbers_in(chunks) == list(range(400))
            assert numbers_in(chunks, MEMORY) == list(range(5))
            assert max(len(chunk.positions) for chunk in chunks) <= 64
            for chunk in chunks:
                assert len(chunk.positions) == len(chunk.times_ms) == len(chunk.values)
                assert [str(at).split("-")[0] for at in chunk.positions] == [str(time) for time in chunk.times_ms]
                assert chunk.times_ms[0] // 1_000 >= before_s
            assert await consumer.fetch(10, 0.0) == []


@pytest.mark.parametrize("at_once", [1, 2, 3])
async def test_no_more_records_come_than_were_asked_for_and_each_topic_has_its_turn(
    settings: EventsSettings, run: str, at_once: int
) -> None:
    with anyio.fail_after(HANG_S):
        async with (
            open_stream_sender(settings, run) as sender,
            open_stream_consumer(settings, run, TOPICS, group="g", member="m") as consumer,
        ):
            await sender.send(numbered(TRAINING, range(10)) + numbered(MEMORY, range(10)))
            fetched = [await consumer.fetch(at_once, 0.1) for _ in range(6)]
    assert max(sum(len(chunk.positions) for chunk in chunks) for chunks in fetched) == min(at_once, 2)
    assert all(numbers_in([chunk for chunks in fetched for chunk in chunks], topic) for topic in TOPICS)


async def test_a_fetch_that_waits_returns_as_soon_as_an_event_comes(settings: EventsSettings, run: str) -> None:
    async def send() -> None:
        async with open_stream_sender(settings, run) as sender:
            await sender.send(numbered(MEMORY, [7]))

    with anyio.fail_after(HANG_S):
        async with open_stream_consumer(settings, run, TOPICS, group="g", member="m") as consumer:
            started = anyio.current_time()
            assert await consumer.fetch(10, 0.05) == []
            assert anyio.current_time() - started >= 0.05
            async with anyio.create_task_group() as group:
                group.start_soon(send)
                assert numbers_in(await consumer.fetch(10, HANG_S), MEMORY) == [7]


async def test_a_record_that_is_not_ours_has_no_value_and_keeps_its_place(
    settings: EventsSettings, run: str, redis: Any
) -> None:
    with anyio.fail_after(HANG_S):
        foreign = await redis.xadd(RunKeys(run).events(TRAINING), {"w": "x"})
        async with (
            open_stream_sender(settings, run) as sender,
            open_stream_consumer(settings, run, TOPICS, group="g", member="m") as consumer,
        ):
            await sender.send(numbered(TRAINING, [1]))
            [chunk] = await fetch_all(consumer, 2)
            assert chunk.values == [None, b"1"]
            assert chunk.positions[0] == foreign.decode()
            await consumer.commit(end_of([chunk]))
            assert await consumer.lag() == 0


async def test_nothing_is_fetched_while_paused_and_a_waiting_fetch_wakes_at_resume(
    settings: EventsSettings, run: str
) -> None:
    with anyio.fail_after(HANG_S):
        async with (
            open_stream_sender(settings, run) as sender,
            open_stream_consumer(settings, run, TOPICS, group="g", member="m") as consumer,
        ):
            await sender.send(numbered(TRAINING, range(3)))
            consumer.pause()
            consumer.pause()
            started = anyio.current_time()
            assert await consumer.fetch(10, 0.1) == []
            assert anyio.current_time() - started >= 0.1
            async with anyio.create_task_group() as group:
                group.start_soon(_resume_later, consumer)
                assert numbers_in(await consumer.fetch(10, HANG_S)) == [0, 1, 2]


async def _resume_later(consumer: Consumer) -> None:
    await anyio.wait_all_tasks_blocked()
    consumer.resume()


async def test_lag_and_backlog_count_what_is_not_acknowledged(settings: EventsSettings, run: str, redis: Redis) -> None:
    with anyio.fail_after(HANG_S):
        assert await backlog(redis, run, "g") == 0
        async with open_stream_sender(settings, run) as sender:
            await sender.send(numbered(TRAINING, range(30)) + numbered(MEMORY, range(12)))
        assert await backlog(redis, run, "g") == 42
        async with open_stream_consumer(settings, run, TOPICS, group="g", member="m") as consumer:
            assert await consumer.lag() == 42
            chunks = await consumer.fetch(20, 0.1)
            assert [len(chunk.positions) for chunk in chunks] == [10, 10]
            assert await consumer.lag() == 42
            await consumer.commit(end_of(chunks[:1]))
            assert await consumer.lag() == await backlog(redis, run, "g") == 32
            rest = await fetch_all(consumer, 22)
            await consumer.commit(end_of([*chunks, *rest]))
            assert await consumer.lag() == await backlog(redis, run, "g") == 0


@pytest.mark.parametrize("deleted", [0, 4, 9])
async def test_the_backlog_ends_at_zero_also_where_entries_were_deleted(
    settings: EventsSettings, run: str, redis: Redis, deleted: int
) -> None:
    key = RunKeys(run).events(TRAINING)
    with anyio.fail_after(HANG_S):
        ids = [await redis.xadd(key, {"v": str(number)}) for number in range(10)]
        async with open_stream_consumer(settings, run, TOPICS, group="g", member="m") as consumer:
            await redis.xdel(key, ids[deleted])
            assert 9 <= await consumer.lag() <= 10
            first = await consumer.fetch(10, 0.1)
            assert await backlog(redis, run, "g") >= 5
            rest = await fetch_all(consumer, 9 - len(numbers_in(first)))
            await consumer.commit(end_of([*first, *rest]))
            assert await consumer.lag() == await backlog(redis, run, "g") == 0


async def test_replies_of_large_entries_are_short_and_those_of_small_ones_long(
    settings: EventsSettings, run: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch_size, "REPLY_BYTES", 100_000)
    with anyio.fail_after(HANG_S):
        async with open_stream_sender(settings, run) as sender:
            for first in range(0, 200, 50):
                values = [b"%d" % number + b" " * 20_000 for number in range(first, first + 50)]
                await sender.send([Outgoing(TRAINING, b"k", value) for value in values])
            await sender.send(numbered(TRAINING, range(200, 1_000)))
        async with open_stream_consumer(settings, run, TOPICS, group="g", member="dead") as consumer:
            chunks = await fetch_all(consumer, 1_000, at_once=5_000)
        assert numbers_in(chunks) == list(range(1_000))
        sizes = [len(chunk.positions) for chunk in chunks]
        assert sizes[0] == 32  # of each stream, where nothing is known
        assert max(sizes[1:80]) == 2
        assert max(sizes) == 250
        async with open_stream_consumer(settings, run, TOPICS, group="g", member="heir", dead_after_s=0.3) as consumer:
            chunks = await fetch_all(consumer, 1_000, at_once=5_000)
        sizes = [len(chunk.positions) for chunk in chunks]
        assert sorted(numbers_in(chunks)) == list(range(1_000))
        assert sizes[0] == 64
        assert max(sizes[1:30]) == 4


async def test_dead_letters_are_in_their_stream_up_to_the_cap(
    redis_settings: RedisSettings, run: str, redis: Any
) -> None:
    settings = EventsSettings(url=redis_settings.url, stream_cap=3)
    with anyio.fail_after(HANG_S):
        async with open_stream_consumer(settings, run, TOPICS, group="g", member="m") as consumer:
            await consumer.send_dead_letters([b"one", b"two"])
            await consumer.send_dead_letters([b"three", b"four"])
        entries = await redis.xrange(RunKeys(run).events("dead_letter"))
        assert [fields for _, fields in entries] == [{b"v": b"two"}, {b"v": b"three"}, {b"v": b"four"}]
        async with open_stream_sender(settings, run) as sender:
            assert await report_trimmed(sender) == {"dead_letter": 1}


async def test_letters_have_a_smaller_cap_than_events(settings: EventsSettings, run: str, redis: Any) -> None:
    with anyio.fail_after(HANG_S):
        async with open_stream_consumer(settings, run, TOPICS, group="g", member="m") as consumer:
            await consumer.send_dead_letters([b"%d" % number for number in range(1_005)])
        entries = await redis.xrange(RunKeys(run).events("dead_letter"))
        assert [int(fields[b"v"]) for _, fields in entries] == list(range(5, 1_005))
        async with open_stream_sender(settings, run) as sender:
            assert await report_trimmed(sender) == {"dead_letter": 5}


async def test_a_position_that_is_not_held_commits_nothing(settings: EventsSettings, run: str) -> None:
    with anyio.fail_after(HANG_S):
        async with (
            open_stream_sender(settings, run) as sender,
            open_stream_consumer(settings, run, TOPICS, group="g", member="m") as consumer,
        ):
            await sender.send(numbered(TRAINING, range(3)))
            await fetch_all(consumer, 3)
            await consumer.commit({Partition(TRAINING, 0): "99999999999999-0"})
            assert await consumer.lag() == 3


async def test_the_server_is_named_with_its_version(settings: EventsSettings) -> None:
    with anyio.fail_after(HANG_S):
        words = await check_log(settings)
    assert words.split(" at ")[0].split(" ")[0] in {"Valkey", "Redis"}
    assert words.endswith(settings.url.removeprefix("redis://"))


async def test_an_absent_server_is_reported_at_opening(unused_port: int, run: str) -> None:
    settings = EventsSettings(url=f"redis://:hidden@127.0.0.1:{unused_port}", timeout_s=0.2)
    expected = rf"^event log: Redis at 127\.0\.0\.1:{unused_port} cannot be reached: "
    with anyio.fail_after(HANG_S):
        with pytest.raises(EventLogError, match=expected):
            await check_log(settings)
        with pytest.raises(EventLogError, match=expected):
            async with open_stream_consumer(settings, run, TOPICS, group="g", member="m"):
                pass


async def test_a_wrong_url_is_refused_before_anything_is_tried(run: str) -> None:
    settings = EventsSettings(url="s3cret://127.0.0.1")
    with pytest.raises(SettingsError, match=r"^events url: its scheme is none of kafka://"):
        async with open_stream_consumer(settings, run, TOPICS, group="g", member="m"):
            pass
