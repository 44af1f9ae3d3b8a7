"""What each service's user may do on a real server, and what it may not."""

from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import anyio
import numpy as np
import pytest
from anyio import to_thread
from pydantic import SecretStr
from redis.exceptions import NoPermissionError, ResponseError

from borgcore.connection.client import open_redis
from borgcore.errors import ServerError
from borgcore.eventlog.open import check_log
from borgcore.eventlog.streams.consumer import open_stream_consumer
from borgcore.eventlog.streams.sender import open_stream_sender
from borgcore.replay import ReplaySettings, ReplaySpec, Transition, open_replay
from borgcore.replay.library import NAME, load_functions
from borgcore.run.access import ROLES, Role, derive_password, hashed, rules
from borgcore.run.keys import RunKeys
from borgcore.run.leases import claim_lowest, count_holders
from borgcore.run.weights import Weights, fetch_weights, publish_weights
from borgcore.settings.sections import EventsSettings, RedisSettings
from borgmonitor.nodes import Nodes, Reply
from tests.limits import HANG_S

from .eventlog.stream_log import TOPICS, TRAINING, end_of, fetch_all, numbered, numbers_in, report_trimmed

MASTER = SecretStr("m4ster")
SPEC = ReplaySpec("pong", stack=4, height=8, width=8, n=3, actions=6, gamma=0.99)
REPLAY = ReplaySettings(capacity=1_000, min_size=10, samples_per_insert=0.0, seed=7)
DOORS = [
    "FLUSHALL", "FLUSHDB", "CONFIG GET maxmemory", "CONFIG SET maxmemory 0", "SHUTDOWN NOSAVE", "KEYS *", "SCAN 0",
    "DBSIZE", "SAVE", "BGREWRITEAOF", "REPLICAOF 127.0.0.1 1", "MONITOR", "CLIENT LIST",
    "CLIENT KILL TYPE normal", "ACL LIST", "ACL SETUSER x on", "FUNCTION FLUSH", "FUNCTION LIST", "FUNCTION RESTORE x",
    f"FUNCTION DELETE {NAME}",
    "FUNCTION LOAD x", "SCRIPT FLUSH", "MODULE LIST", "SWAPDB 0 1", "RANDOMKEY", "SLOWLOG GET", "PUBLISH a b",
    "SUBSCRIBE a", "GET another", "SET another 1", "HGETALL borg:{other:r0}:meta", "DEL borg:{other:r0}:meta",
    "XADD borg:{other:r0}:events:training_log * v 1", "EVAL return 1 borg:{other:r0}:meta",
]  # fmt: skip


@pytest.fixture(params=["valkey", "redis"])
async def server(request: pytest.FixtureRequest, run: str) -> RedisSettings:
    """A server with our users and functions, and the settings of the user who may do everything."""
    started: Any = await to_thread.run_sync(request.getfixturevalue(f"start_{request.param}"))
    settings = RedisSettings(url=started.connection_url)
    async with open_redis(settings) as redis:
        for role in ROLES:
            words = ("ACL", "SETUSER", role, *rules(role, run), hashed(derive_password(MASTER, role)))
            await redis.execute_command(*words)  # type: ignore[no-untyped-call]
        assert await load_functions(redis)
        assert not await load_functions(redis)
    return settings


def as_user(server: RedisSettings, role: Role) -> RedisSettings:
    return server.model_copy(update={"user": role, "password": derive_password(MASTER, role)})


def log_of(settings: RedisSettings) -> EventsSettings:
    return EventsSettings(url=settings.url, user=settings.user, password=settings.password)


def transitions(count: int) -> list[Transition]:
    return [Transition(np.zeros((7, 8, 8), np.uint8), 0, 1.0, 0.5, 3, float(i)) for i in range(count)]


async def test_an_agent_may_do_its_work(server: RedisSettings, run: str) -> None:
    settings, key = as_user(server, "agent"), RunKeys(run).weights()
    with anyio.fail_after(HANG_S):
        async with open_redis(settings) as redis, open_replay(redis, run, SPEC, REPLAY) as replay:
            await replay.push(transitions(20))
            batch = await replay.sample(8)
            assert await replay.reprioritise(batch.ids_B, np.ones(8)) == 8
            assert (await replay.stats()).size == 20
            lease = await claim_lowest(redis, run, HANG_S)
            assert await lease.renew()
            assert await count_holders(redis, run, 1) == 1
            await lease.release()
            await publish_weights(redis, key, Weights(1, b"w"))
            assert await fetch_weights(redis, key, 0, 10) == Weights(1, b"w")
            await redis.hset(RunKeys(run).reports, "1", "{}")
            await redis.hdel(RunKeys(run).reports, "1")
        async with open_stream_sender(log_of(settings).model_copy(update={"stream_cap": 5}), run) as sender:
            await sender.send(numbered(TRAINING, range(7)))
            assert await report_trimmed(sender) == {TRAINING: 2}


async def test_a_monitor_may_look_at_the_memory_and_publish_but_not_change_the_memory(
    server: RedisSettings, run: str
) -> None:
    settings = as_user(server, "monitor")
    with anyio.fail_after(HANG_S):
        async with open_redis(server) as redis, open_replay(redis, run, SPEC, REPLAY) as replay:
            await replay.push(transitions(20))
        nodes = Nodes(settings, run)
        [reply] = (await nodes.poll()).values()
        await nodes.close()
        assert isinstance(reply, Reply)
        assert reply.replay is not None
        assert reply.replay.stats is not None
        assert reply.replay.stats.size == 20
        async with open_stream_sender(log_of(settings), run) as sender:
            await sender.send(numbered(TRAINING, range(3)))
        async with open_redis(settings) as redis:
            for command in (f"HSET {RunKeys(run).meta} a b", f"HDEL {RunKeys(run).meta} spec"):
                with pytest.raises(NoPermissionError):
                    await redis.execute_command(*command.split())  # type: ignore[no-untyped-call]


async def test_a_logshipper_may_read_the_log_but_not_the_memory(server: RedisSettings, run: str) -> None:
    settings = as_user(server, "logshipper")
    log = log_of(settings)
    opened = partial(open_stream_consumer, log, run, TOPICS, group="g", dead_after_s=0.0)
    with anyio.fail_after(HANG_S):
        async with AsyncExitStack() as stack:
            sender = await stack.enter_async_context(open_stream_sender(log, run))
            await check_log(log, "g")
            await sender.send(numbered(TRAINING, range(9)))
            async with opened(member="dead") as dead:
                await fetch_all(dead, 9)
            consumer = await stack.enter_async_context(opened(member="m"))
            chunks = await fetch_all(consumer, 9)  # taken over from the dead member
            assert numbers_in(chunks) == list(range(9))
            await consumer.send_dead_letters([b"x"])
            await consumer.commit(end_of(chunks))
            assert await consumer.lag() == 0
            assert (await consumer.retention_use()).share == 0.0
        async with open_redis(settings) as redis:
            with pytest.raises(NoPermissionError):
                await redis.hgetall(RunKeys(run).meta)


@pytest.mark.parametrize("role", ROLES)
async def test_no_service_may_administer_the_server_or_touch_another_run(
    server: RedisSettings, role: Role, run: str
) -> None:
    with anyio.fail_after(HANG_S):
        async with open_redis(server) as admin, open_redis(as_user(server, role)) as redis:
            await admin.set("another", "1")
            refused = []
            for door in DOORS:
                command, *words = door.split(" ")
                if command == "EVAL":
                    words = ["return 1", "1", words[-1]]
                try:
                    await redis.execute_command(command, *words)  # type: ignore[no-untyped-call]
                except NoPermissionError:
                    refused.append(door)
            assert refused == DOORS
            for script in ("return redis.call('FLUSHALL')", "return redis.call('GET', 'another')"):
                with pytest.raises(ResponseError, match=r"(?i)permission|ACL failure|can't (run|access)"):
                    await redis.eval(script, 1, RunKeys(run).events(TRAINING))
            assert await admin.get("another") == b"1"
            assert await admin.function_list(library=NAME)


async def test_an_agent_that_may_not_load_missing_functions_says_who_does(server: RedisSettings, run: str) -> None:
    with anyio.fail_after(HANG_S):
        async with open_redis(server) as redis:
            await redis.function_flush()
        async with open_redis(as_user(server, "agent")) as redis:
            with pytest.raises(ServerError, match=r"permission .*functions are missing.*: borg up and"):
                async with open_replay(redis, run, SPEC, REPLAY):
                    pass
        async with open_redis(server) as redis, open_replay(redis, run, SPEC, REPLAY) as replay:
            assert replay.inserted == 0  # a user who may load them does
