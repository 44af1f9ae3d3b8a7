from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.abc
import pytest
import structlog
import trustme
from pydantic import SecretStr

from borgcore.connection.client import open_redis
from borgcore.errors import ServerError, SettingsError
from borgcore.settings.sections import RedisSettings
from tests.limits import HANG_S
from tests.valkey import ValkeyServer


def port_of(listener: anyio.abc.Listener[anyio.abc.SocketStream]) -> int:
    return int(listener.extra(anyio.abc.SocketAttribute.local_port))  # noqa: S610 - not Django


async def refusal(settings: RedisSettings) -> str:
    with anyio.fail_after(HANG_S), pytest.raises((ServerError, SettingsError)) as refused:
        async with open_redis(settings):
            pass
    text = str(refused.value)
    assert "\n" not in text
    return text


async def test_the_newest_and_the_oldest_server_are_accepted(redis_settings: RedisSettings) -> None:
    with anyio.fail_after(HANG_S):
        async with open_redis(redis_settings) as redis:
            assert await redis.ping()


async def test_a_unix_socket_with_a_password_is_accepted(
    start_valkey: Callable[..., ValkeyServer], short_folder: Path, password: SecretStr
) -> None:
    path = short_folder / "s"
    await anyio.to_thread.run_sync(partial(start_valkey, unix_socket_path=path))
    with anyio.fail_after(HANG_S):
        async with open_redis(RedisSettings(url=f"unix://{path}")) as redis:
            await redis.config_set("requirepass", password.get_secret_value())
        async with open_redis(RedisSettings(url=f"unix://{path}", password=password)) as redis:
            assert await redis.ping()
    text = await refusal(RedisSettings(url=f"unix://{path}", password=SecretStr("wrong-one")))
    assert text == f"Redis at {path} refused the password; set BORG_REDIS_PASSWORD"


async def test_a_missing_password_is_named(start_redis: Callable[..., Any], password: SecretStr) -> None:
    server = await anyio.to_thread.run_sync(partial(start_redis, requirepass=password.get_secret_value()))
    text = await refusal(RedisSettings(url=server.connection_url))
    assert text == f"Redis at 127.0.0.1:{server.port} asks for a password; set BORG_REDIS_PASSWORD"
    url = f"redis://:{password.get_secret_value()}x@127.0.0.1:{server.port}"
    text = await refusal(RedisSettings(url=url))
    assert text == f"Redis at 127.0.0.1:{server.port} refused the password; set BORG_REDIS_PASSWORD"


async def test_an_absent_server_is_named_with_its_address(unused_port: int) -> None:
    settings = RedisSettings(url=f"redis://:hidden@127.0.0.1:{unused_port}", timeout_s=0.2)
    text = await refusal(settings)
    assert text.startswith(f"Redis at 127.0.0.1:{unused_port} cannot be reached: ")
    assert "hidden" not in text


async def test_an_outage_is_logged_once_not_per_try(unused_port: int) -> None:
    with structlog.testing.capture_logs() as logs:
        await refusal(RedisSettings(url=f"redis://127.0.0.1:{unused_port}", timeout_s=1.0))
    assert [log["event"] for log in logs] == ["redis_lost"]


async def test_a_read_only_replica_is_refused(start_redis: Callable[..., Any]) -> None:
    primary = await anyio.to_thread.run_sync(start_redis)
    replica = await anyio.to_thread.run_sync(partial(start_redis, replicaof=f"127.0.0.1 {primary.port}"))
    text = await refusal(RedisSettings(url=replica.connection_url))
    expected = f"Redis at 127.0.0.1:{replica.port} is a read-only replica; the address of its primary is expected"
    assert text == expected


@pytest.mark.parametrize(
    ("info", "text"),
    [
        ("redis_version:6.2.14", "is 6.2.14, too old for functions; Redis 7.0 or Valkey 8.0 is needed"),
        (
            "redis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:7.2.7",
            "is 7.2.7, too old; at least 8.0 is needed",
        ),
        ("nothing:here", "is unknown, too old"),
    ],
)
async def test_a_server_too_old_for_functions_is_refused_naming_its_version(info: str, text: str) -> None:
    async def answer(client: anyio.abc.SocketStream) -> None:
        async with client:
            async for request in client:
                for _ in range(request.count(b"INFO")):
                    await client.send(f"${len(info)}\r\n{info}\r\n".encode())

    async with (
        await anyio.create_tcp_listener(local_host="127.0.0.1") as listener,
        anyio.create_task_group() as group,
    ):
        group.start_soon(listener.serve, answer)
        assert text in await refusal(RedisSettings(url=f"redis://127.0.0.1:{port_of(listener)}"))
        group.cancel_scope.cancel()


async def test_a_server_that_never_answers_is_given_up() -> None:
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
        port = port_of(listener)
        settings = RedisSettings(url=f"redis://127.0.0.1:{port}", timeout_s=0.1, connect_timeout_s=0.1)
        assert f"Redis at 127.0.0.1:{port} gave no answer in time" in await refusal(settings)


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("http://localhost:6379", "redis url: scheme 'http', expected redis://host:port"),
        ("localhost", "redis url: scheme 'missing', expected"),
        ("redis://localhost:s3cret", "redis url: the port is no number up to 65535; expected redis://host:port"),
        ("redis://localhost?password=s3cret", "redis url: a query or fragment is not allowed"),
        ("redis://:s3cret#x@localhost", "redis url: a query or fragment is not allowed"),
        ("redis://user:s3/cret@localhost", "redis url: the port is no number"),
        ("redis://user:12/s3cret@localhost", "redis url: an @ follows the server's address"),
        ("redis://[s3cret]@localhost", "redis url: found a value that is no URL"),
    ],
)
async def test_a_wrong_url_is_refused_saying_what_is_expected(url: str, text: str) -> None:
    refused = await refusal(RedisSettings(url=url))
    assert text in refused
    assert "s3" not in refused
    assert "cret" not in refused


async def test_tls_is_checked_against_the_authority(tls_settings: RedisSettings, tmp_path: Path) -> None:
    url, stranger = tls_settings.url, tmp_path / "stranger.pem"
    trustme.CA().cert_pem.write_to_path(stranger)
    with anyio.fail_after(HANG_S):
        async with open_redis(tls_settings) as redis:
            assert await redis.ping()
    text = await refusal(RedisSettings(url=url, ca_file=stranger, timeout_s=2.0))
    assert "cannot be reached" in text
    assert "certificate" in text.lower()
    text = await refusal(RedisSettings(url=url, ca_file=tmp_path / "absent.pem"))
    assert text == f"redis ca_file: {tmp_path}/absent.pem is no file; expected a PEM certificate authority"


async def test_a_cancelled_call_leaves_no_reply_for_the_next(redis_settings: RedisSettings) -> None:
    with anyio.fail_after(HANG_S):
        async with open_redis(redis_settings) as redis:
            for wait_s in (0.0, 0.001, 0.005, 0.01):
                async with anyio.create_task_group() as group:
                    for _ in range(40):
                        with anyio.move_on_after(wait_s):
                            await redis.blpop(["nothing-is-ever-pushed-here"], timeout=5)
                    for number in range(40):
                        group.start_soon(_echoes, redis, number)
            pool = redis.connection_pool
            assert not pool._in_use_connections


async def _echoes(redis: Any, number: int) -> None:
    assert await redis.echo(f"{number}") == f"{number}".encode()
