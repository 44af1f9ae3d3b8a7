"""The password and the certificate authority of Redis change while a client is open."""

from collections.abc import Callable, Collection, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
import trustme
from anyio import to_thread
from redis.asyncio import Redis
from redis.exceptions import RedisError
from structlog.testing import capture_logs

from borgcore.connection.client import open_redis
from borgcore.connection.failures import server_error
from borgcore.errors import ServerError
from borgcore.eventlog.open import open_consumer
from borgcore.eventlog.protocol import Partition
from borgcore.eventlog.publisher import open_publisher
from borgcore.events.monitoring import EventsDropped
from borgcore.settings.sections import RedisSettings
from borgmonitor.nodes import Nodes, Reply
from borgmonitor.settings import MonitorSettings
from tests.limits import HANG_S


async def _load(secrets: Path, *options: str) -> MonitorSettings:
    return await to_thread.run_sync(MonitorSettings.load, ("--secrets-dir", str(secrets), *options))


async def _restart(server: Any, **options: str) -> None:
    await to_thread.run_sync(server.stop)
    server.options |= options
    await to_thread.run_sync(server.start)


async def _start(start_redis: Callable[..., Any], **options: str) -> Any:
    return await to_thread.run_sync(partial(start_redis, **options))


async def _logged(logs: Sequence[object]) -> None:
    while not logs:  # noqa: ASYNC110  # structlog sets no event
        await anyio.sleep(0.01)


async def _ping(redis: Redis) -> None:
    assert await redis.ping()


async def _disconnect(redis: Redis) -> None:
    await redis.client_kill_filter(_type="normal", skipme=True)


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    folder = tmp_path / "secrets"
    folder.mkdir()
    return folder


@pytest.mark.parametrize("name", ["borg_redis_password", "borg_monitor_redis_password"])
async def test_a_new_password_in_its_file_is_used_once_the_old_one_is_refused(
    start_redis: Callable[..., Any], secrets: Path, name: str
) -> None:
    server = await _start(start_redis, requirepass="one")
    (secrets / name).write_text("one\n")
    settings = await _load(secrets, "--redis-url", server.connection_url)
    with anyio.fail_after(HANG_S), capture_logs() as logs:
        async with open_redis(settings.redis) as redis, open_redis(settings.redis) as other:
            (secrets / name).write_text("two\n")
            await _disconnect(redis)
            assert await other.ping()  # the old one is still the right one
            await redis.config_set("requirepass", "two")
            await _disconnect(redis)
            pipe = other.pipeline(transaction=False)
            pipe.ping()
            assert await pipe.execute() == [True]
            await _disconnect(other)
            assert await redis.ping()  # it was read for both
        async with open_redis(settings.redis) as late:
            assert await late.ping()
    assert [entry["event"] for entry in logs if entry["event"] != "redis_lost"] == ["redis_login_renewed"]


async def test_a_server_that_restarts_with_a_new_password_is_awaited_until_the_file_follows(
    start_redis: Callable[..., Any], secrets: Path
) -> None:
    server = await _start(start_redis, requirepass="one")
    (secrets / "borg_redis_password").write_text("one")
    settings = await _load(secrets, "--redis-url", server.connection_url)
    patient = settings.redis.model_copy(update={"outage_s": HANG_S})
    with anyio.fail_after(HANG_S), capture_logs() as logs:
        async with open_redis(patient) as redis, anyio.create_task_group() as group:
            await _restart(server, requirepass="two")
            group.start_soon(_ping, redis)
            await _logged(logs)
            (secrets / "borg_redis_password").write_text("two")
    assert [entry["event"] for entry in logs] == ["redis_lost", "redis_login_renewed", "redis_regained"]


@pytest.mark.parametrize(("before", "after"), [("", "one"), ("one", "")])
async def test_a_password_may_be_introduced_or_removed(
    start_redis: Callable[..., Any], secrets: Path, before: str, after: str
) -> None:
    server = await _start(start_redis, requirepass=before)
    (secrets / "borg_redis_password").write_text(before)
    settings = await _load(secrets, "--redis-url", server.connection_url)
    with anyio.fail_after(HANG_S):
        async with open_redis(settings.redis) as redis:
            (secrets / "borg_redis_password").write_text(after)
            await _restart(server, requirepass=after)
            assert await redis.ping()


async def test_a_password_in_a_file_with_the_url_is_read_again_but_the_server_stays(
    start_redis: Callable[..., Any], secrets: Path
) -> None:
    server = await _start(start_redis, requirepass="one")
    url = secrets / "borg_redis_url"
    url.write_text(f"redis://:one@127.0.0.1:{server.port}/3")
    settings = await _load(secrets)
    with anyio.fail_after(HANG_S):
        async with open_redis(settings.redis) as redis:
            await redis.set("key", "in database 3")
            url.write_text(f"redis://:two@127.0.0.1:{server.port}/3")
            await redis.config_set("requirepass", "two")
            await _disconnect(redis)
            async with open_redis(settings.redis) as other:
                assert await other.get("key") == b"in database 3"
            url.write_text("redis://:three@127.0.0.1:1/3")
            assert (await settings.redis.read_again()).url == f"redis://:one@127.0.0.1:{server.port}/3"


async def test_a_password_that_stays_wrong_is_reported_after_the_outage_and_at_the_start_at_once(
    start_redis: Callable[..., Any], secrets: Path
) -> None:
    server = await _start(start_redis, requirepass="one")
    (secrets / "borg_redis_password").write_text("one")
    settings = (await _load(secrets, "--redis-url", server.connection_url)).redis
    refused = f"Redis at 127.0.0.1:{server.port} refused the password; set BORG_REDIS_PASSWORD"
    with anyio.fail_after(HANG_S):
        async with open_redis(settings.model_copy(update={"outage_s": 0.5})) as redis:
            await _restart(server, requirepass="two")
            with pytest.raises(RedisError) as failed:
                await redis.ping()
            assert (
                str(server_error(failed.value, settings.address)) == f"{refused}; its files are read again at each try"
            )
        with pytest.raises(ServerError) as rejected:
            async with open_redis(settings.model_copy(update={"timeout_s": 2 * HANG_S})):
                pass
        assert str(rejected.value) == refused


async def test_a_certificate_of_a_new_authority_is_trusted_once_the_file_holds_it(
    tls_settings: RedisSettings, tls_server: Any
) -> None:
    assert tls_settings.ca_file is not None
    settings = tls_settings.model_copy(update={"outage_s": HANG_S})
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    with anyio.fail_after(HANG_S), capture_logs() as logs:
        async with open_redis(settings) as redis:
            await to_thread.run_sync(tls_server.stop)
            certificate.cert_chain_pems[0].write_to_path(tls_server.options["tls-cert-file"])
            certificate.private_key_pem.write_to_path(tls_server.options["tls-key-file"])
            await to_thread.run_sync(tls_server.start)
            async with anyio.create_task_group() as group:
                group.start_soon(_ping, redis)
                await _logged(logs)
                authority.cert_pem.write_to_path(tls_settings.ca_file)
    assert [entry["event"] for entry in logs] == ["redis_lost", "redis_regained"]
    assert logs[0]["reason"].endswith(f"; {tls_settings.ca_file} is read again at each try")


async def test_an_event_log_in_redis_outlives_a_new_password(start_redis: Callable[..., Any], secrets: Path) -> None:
    server = await _start(start_redis, requirepass="one", appendonly="yes", appendfsync="always")
    (secrets / "borg_redis_password").write_text("one")
    settings = (await _load(secrets, "--redis-url", server.connection_url)).events
    events = [EventsDropped(service="monitor", agent=None, dropped=number, reason="test") for number in (1, 2)]

    async def revoked(partitions: Collection[Partition]) -> None:
        pass

    reading = open_consumer(settings, "run", [events[0].topic], group="g", member="m", revoked=revoked)
    with anyio.fail_after(HANG_S):
        async with open_publisher(settings, "run", "monitor") as publisher, reading as consumer:
            publisher.publish(events[0])
            while not await consumer.fetch(10, 0.1):
                pass
            await _restart(server, requirepass="two")
            (secrets / "borg_redis_password").write_text("two")
            publisher.publish(events[1])
            while not await consumer.fetch(10, 0.1):
                pass


async def test_the_monitor_polls_on_with_a_new_password(start_redis: Callable[..., Any], secrets: Path) -> None:
    server = await _start(start_redis, requirepass="one")
    (secrets / "borg_redis_password").write_text("one")
    settings = (await _load(secrets, "--redis-url", server.connection_url)).redis
    nodes = Nodes(settings, "run")
    with anyio.fail_after(HANG_S):
        assert isinstance((await nodes.poll())[settings.address], Reply)
        await _restart(server, requirepass="two")
        assert isinstance((await nodes.poll())[settings.address], RedisError)
        (secrets / "borg_redis_password").write_text("two")
        while not isinstance((await nodes.poll())[settings.address], Reply):
            pass
        await nodes.close()
