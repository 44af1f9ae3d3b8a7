from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from redis.asyncio.connection import Connection, SSLConnection, UnixDomainSocketConnection

from borgcore.settings.sections import RedisSettings
from borgmonitor.nodes import _connect

LOGIN = "redis://me:pa%40ss@one.example:6379"


@pytest.mark.parametrize(
    ("url", "node", "expected", "login"),
    [
        (LOGIN, "one.example:6379", {"host": "one.example", "port": 6379}, ("me", "pa@ss")),
        (LOGIN, "10.0.0.2:7001", {"host": "10.0.0.2", "port": 7001}, ("me", "pa@ss")),
        ("redis://h", "::1:7001", {"host": "::1", "port": 7001}, ()),
        ("unix:///run/s", "10.0.0.2:7001", {"host": "10.0.0.2", "port": 7001}, ()),
        ("unix:///run/s", "/run/s", {"path": "/run/s"}, ()),
    ],
)
def test_every_node_is_reached_as_the_settings_say(
    url: str, node: str, expected: dict[str, Any], login: tuple[str, ...]
) -> None:
    pool = _connect(RedisSettings(url=url, timeout_s=3.0), node).connection_pool
    assert {name: pool.connection_kwargs.get(name) for name in expected} == expected
    assert pool.connection_kwargs["socket_timeout"] == 3.0
    assert issubclass(pool.connection_class, UnixDomainSocketConnection if "path" in expected else Connection)
    assert pool.connection_kwargs["credential_provider"].get_credentials() == login


def test_a_cluster_with_tls_is_reached_by_tls_and_with_the_password_of_the_settings() -> None:
    settings = RedisSettings(url="rediss://h:1", password=SecretStr("s3cret"), ca_file=Path("/ca.pem"))
    pool = _connect(settings, "10.0.0.2:7001").connection_pool
    assert issubclass(pool.connection_class, SSLConnection)
    login = pool.connection_kwargs["credential_provider"]
    assert login.get_credentials() == ("s3cret",)
    assert login.ca_file == "/ca.pem"
