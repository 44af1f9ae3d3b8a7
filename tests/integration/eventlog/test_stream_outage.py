from collections.abc import Callable
from pathlib import Path

import anyio
import anyio.abc
import pytest
import structlog
from anyio.to_thread import run_sync
from redis.asyncio import Redis

from borgcore.connection.client import open_redis
from borgcore.errors import EventLogError
from borgcore.eventlog.protocol import Chunk
from borgcore.eventlog.streams.consumer import StreamConsumer, open_stream_consumer
from borgcore.eventlog.streams.sender import open_stream_sender
from borgcore.run.keys import RunKeys
from borgcore.settings.sections import EventsSettings, RedisSettings
from tests.limits import HANG_S
from tests.valkey import ValkeyServer

from .stream_log import MEMORY, TOPICS, TRAINING, end_of, fetch_all, numbered, numbers_in, report_trimmed


@pytest.fixture
def own_settings(short_folder: Path) -> EventsSettings:
    """Of the server that the test starts and stops."""
    return EventsSettings(url=f"unix://{short_folder / 's'}", buffer=100)


@pytest.fixture
def valkey(start_valkey: Callable[..., ValkeyServer], short_folder: Path) -> ValkeyServer:
    return start_valkey(short_folder / "s", appendonly="yes", appendfsync="always")


async def clock_beyond(redis: Redis, chunks: list[Chunk]) -> None:
    """Waits until the server's clock has passed the newest entry: a stream made in its millisecond repeats its ids."""
    newest_ms = max(int(str(position).partition("-")[0]) for chunk in chunks for position in chunk.positions)
    while True:
        seconds, microseconds = await redis.time()
        if 1_000 * seconds + microseconds // 1_000 > newest_ms:
            return


@pytest.mark.parametrize("lost", ["the stream", "the group"])
async def test_a_group_that_vanished_is_created_again_and_reading_goes_on(
    settings: EventsSettings, run: str, redis: Redis, lost: str
) -> None:
    key = RunKeys(run).events(TRAINING)
    with anyio.fail_after(HANG_S), structlog.testing.capture_logs() as logs:
        async with (
            open_stream_sender(settings, run) as sender,
            open_stream_consumer(settings, run, TOPICS, group="g", member="m") as consumer,
        ):
            await sender.send(numbered(TRAINING, range(10)))
            held = await fetch_all(consumer, 10)
            await clock_beyond(redis, held)
            await (redis.delete(key) if lost == "the stream" else redis.xgroup_destroy(key, "g"))
            await sender.send(numbered(TRAINING, range(10, 15)))
            newer = await fetch_all(consumer, 5)
            assert numbers_in(newer) == list(range(10, 15))
            assert await consumer.fetch(10, 0.1) == []
            await consumer.commit(end_of(held))
            assert await consumer.lag() == 5
            await consumer.commit(end_of(newer))
            assert await consumer.lag() == 0
    assert [log["event"] for log in logs] == ["stream_group_lost"]


async def test_a_stream_deleted_under_a_waiting_reader_is_made_again(
    settings: EventsSettings, run: str, redis: Redis
) -> None:
    async def lose_everything() -> None:
        await anyio.wait_all_tasks_blocked()
        await redis.delete(*[RunKeys(run).events(topic) for topic in TOPICS])
        async with open_stream_sender(settings, run) as sender:
            await sender.send(numbered(MEMORY, [1]))

    with anyio.fail_after(HANG_S):
        async with open_stream_consumer(settings, run, TOPICS, group="g", member="m") as consumer:
            assert await consumer.fetch(10, 0.0) == []
            async with anyio.create_task_group() as group:
                group.start_soon(lose_everything)
                assert numbers_in(await consumer.fetch(10, HANG_S), MEMORY) == [1]


async def test_a_server_killed_and_started_again_is_ridden_out_with_nothing_lost_or_doubled(
    own_settings: EventsSettings, run: str, valkey: ValkeyServer
) -> None:
    chunks = list[Chunk]()

    async def read(consumer: StreamConsumer) -> None:
        chunks.extend(await fetch_all(consumer, 60, at_once=8))

    with anyio.fail_after(HANG_S):
        async with (
            open_stream_sender(own_settings, run) as sender,
            open_stream_consumer(own_settings, run, TOPICS, group="g", member="m") as consumer,
        ):
            await sender.send(numbered(TRAINING, range(40)))
            held = await fetch_all(consumer, 4, at_once=8)
            await run_sync(valkey.terminate)
            async with anyio.create_task_group() as group:
                group.start_soon(read, consumer)
                with pytest.raises(EventLogError, match="cannot be reached"):
                    await sender.send(numbered(TRAINING, range(40, 64)))
                with pytest.raises(EventLogError, match="cannot be reached"):
                    await consumer.commit(end_of(held))
                await run_sync(valkey.start)
                await sender.send(numbered(TRAINING, range(40, 64)))
            assert numbers_in(held + chunks) == list(range(64))
            await consumer.commit(end_of(held + chunks))
            assert await consumer.lag() == 0


async def test_an_outage_that_is_too_long_is_an_error_after_which_reading_can_go_on(
    own_settings: EventsSettings, run: str, valkey: ValkeyServer
) -> None:
    settings = own_settings.model_copy(update={"outage_s": 3.0})
    with anyio.fail_after(HANG_S):
        async with (
            open_stream_sender(settings, run) as sender,
            open_stream_consumer(settings, run, TOPICS, group="g", member="m") as consumer,
        ):
            await sender.send(numbered(TRAINING, range(3)))
            held = await fetch_all(consumer, 3)
            assert consumer.outage is None
            await run_sync(valkey.terminate)
            assert await consumer.fetch(10, 0.05) == []
            assert consumer.outage is not None
            assert consumer.outage.startswith("event log: Redis at ")
            for _ in range(2):
                with pytest.raises(EventLogError, match=r"^event log: Redis at .* cannot be reached: "):
                    await consumer.fetch(10, HANG_S)
            await run_sync(valkey.start)
            await sender.send(numbered(TRAINING, range(3, 5)))
            assert numbers_in(held + await fetch_all(consumer, 2)) == [0, 1, 2, 3, 4]
            assert consumer.outage is None


async def test_a_sender_whose_server_is_absent_says_so_at_once(own_settings: EventsSettings, run: str) -> None:
    settings = own_settings.model_copy(update={"timeout_s": 2 * HANG_S})
    with anyio.fail_after(HANG_S):
        async with open_stream_sender(settings, run) as sender:
            with pytest.raises(EventLogError, match="cannot be reached"):
                await sender.send(numbered(TRAINING, [1]))
            with pytest.raises(EventLogError, match="cannot be reached"):
                await report_trimmed(sender)


async def test_a_sender_whose_server_never_answers_gives_up_in_time(run: str) -> None:
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
        port = listener.extra(anyio.abc.SocketAttribute.local_port)  # noqa: S610  # not Django
        settings = EventsSettings(url=f"redis://127.0.0.1:{port}", timeout_s=0.1)
        with anyio.fail_after(HANG_S):
            async with open_stream_sender(settings, run) as sender:
                for _ in range(2):
                    with pytest.raises(EventLogError, match=rf"Redis at 127\.0\.0\.1:{port} gave no answer in time"):
                        await sender.send(numbered(TRAINING, range(500)))


@pytest.mark.usefixtures("valkey")
async def test_a_full_server_is_named_and_the_event_is_not_repeated_in_the_error(
    own_settings: EventsSettings, run: str
) -> None:
    with anyio.fail_after(HANG_S):
        async with (
            open_redis(RedisSettings(url=own_settings.url)) as redis,
            open_stream_sender(own_settings, run) as sender,
            open_stream_consumer(own_settings, run, TOPICS, group="g", member="m") as consumer,
        ):
            await redis.config_set("maxmemory", "1")
            with pytest.raises(EventLogError, match="is out of memory") as refused:
                await sender.send(numbered(TRAINING, [123456789]))
            assert "123456789" not in str(refused.value)
            await redis.config_set("requirepass", "s3cret")
            await redis.client_kill_filter(_type="normal", skipme=True)
            with pytest.raises(EventLogError, match="asks for a password; set BORG_EVENTS_PASSWORD"):
                await consumer.fetch(10, HANG_S)
