"""A server at its maxmemory: a reader that starts there must be able to empty it."""

from typing import Any

import anyio
import pytest
from anyio import to_thread
from redis.asyncio import Redis
from redis.exceptions import OutOfMemoryError

from borgcore.connection.client import open_redis
from borgcore.eventlog.open import check_log
from borgcore.eventlog.streams.consumer import open_stream_consumer
from borgcore.eventlog.streams.sender import open_stream_sender
from borgcore.run.keys import RunKeys
from borgcore.settings.sections import EventsSettings, RedisSettings
from tests.limits import HANG_S

from .stream_log import TOPICS, TRAINING, end_of, fetch_all, numbered, numbers_in, report_trimmed

EVENTS = 200


@pytest.fixture(params=["valkey", "redis"])
async def own_url(request: pytest.FixtureRequest) -> str:
    """A server of the test's own."""
    server: Any = await to_thread.run_sync(request.getfixturevalue(f"start_{request.param}"))
    return str(server.connection_url)


async def fill(redis: Redis) -> None:
    """Refuses every command that may need memory, from now on."""
    await redis.config_set("maxmemory", "1mb")  # less than an empty server uses, and nothing is evicted
    with pytest.raises(OutOfMemoryError):
        await redis.set("one", "more")


@pytest.mark.parametrize("known", [True, False], ids=["its group exists", "its group does not"])
async def test_a_reader_that_starts_on_a_full_server_empties_it(own_url: str, run: str, known: bool) -> None:
    settings = EventsSettings(url=own_url)
    with anyio.fail_after(HANG_S):
        async with open_redis(RedisSettings(url=own_url)) as redis, open_stream_sender(settings, run) as sender:
            await sender.send(numbered(TRAINING, range(EVENTS)))
            if known:
                async with open_stream_consumer(settings, run, TOPICS, group="g", member="m") as consumer:
                    await fetch_all(consumer, EVENTS // 2, at_once=EVENTS // 2)
            await fill(redis)
            assert own_url.rpartition("/")[2] in await check_log(settings, "g")
            async with open_stream_consumer(settings, run, TOPICS, group="g", member="m") as consumer:
                chunks = await fetch_all(consumer, EVENTS)
                await consumer.send_dead_letters([b"a", b"b"])
                await consumer.commit(end_of(chunks))
                while await redis.xlen(RunKeys(run).events(TRAINING)):
                    await consumer.fetch(1, 0.1)
                assert await consumer.lag() == 0
            assert numbers_in(chunks) == list(range(EVENTS))
            assert await redis.xlen(RunKeys(run).events("dead_letter")) == 2


async def test_a_group_destroyed_on_a_full_server_is_created_again(own_url: str, run: str) -> None:
    settings = EventsSettings(url=own_url)
    with anyio.fail_after(HANG_S):
        async with (
            open_redis(RedisSettings(url=own_url)) as redis,
            open_stream_sender(settings, run) as sender,
            open_stream_consumer(settings, run, TOPICS, group="g", member="m") as consumer,
        ):
            await sender.send(numbered(TRAINING, range(EVENTS)))
            await fill(redis)
            await redis.xgroup_destroy(RunKeys(run).events(TRAINING), "g")
            assert numbers_in(await fetch_all(consumer, EVENTS)) == list(range(EVENTS))


async def test_a_full_server_takes_no_event_but_trims_and_counts_those_past_the_cap(own_url: str, run: str) -> None:
    with anyio.fail_after(HANG_S):
        async with (
            open_redis(RedisSettings(url=own_url)) as redis,
            open_stream_sender(EventsSettings(url=own_url), run) as patient,
            open_stream_sender(EventsSettings(url=own_url, stream_cap=50), run) as sender,
        ):
            await patient.send(numbered(TRAINING, range(EVENTS)))
            await fill(redis)
            with pytest.raises(Exception, match="is out of memory"):
                await sender.send(numbered(TRAINING, [EVENTS]))
            assert await redis.xlen(RunKeys(run).events(TRAINING)) == 50
            await redis.config_set("maxmemory", "0")
            assert await report_trimmed(sender) == {TRAINING: EVENTS - 50}
