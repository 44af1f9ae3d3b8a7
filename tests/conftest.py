"""Real servers for the tests; they listen only on 127.0.0.1 or a unix socket."""

import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import structlog
import trustme
from blockbuster import BlockBuster, blockbuster_ctx
from hypothesis import HealthCheck, settings
from pydantic import SecretStr

from borgcore.settings.sections import RedisSettings
from tests.redis_server import RedisServer
from tests.valkey import ValkeyServer

from .ports import free_port

pytest_plugins = ["tests.scripted_servers", "tests.named_servers"]
# One thread for torch, as the agent has by default: several wait actively for each other, slowly on a busy machine.
os.environ.setdefault("OMP_NUM_THREADS", "1")
OURS = ["borgcore", "borgagent", "borgcli", "borglogshipper", "borgmonitor", "borgsetup"]

# Hypothesis's own limits, 200 ms for an example, say how fast the machine is; a test's time limit bounds it.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")


@pytest.fixture(autouse=True)
def blockbuster() -> Iterator[BlockBuster]:
    """Fail a test in which our code blocks the event loop."""
    with blockbuster_ctx(scanned_modules=OURS) as detector:
        yield detector


@pytest.fixture(autouse=True)
def fresh_logs() -> Iterator[None]:
    """Reset logging after each test: the next test's standard error is another file."""
    yield
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


@pytest.fixture
def unused_port() -> int:
    return free_port()


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A folder whose path is short enough for a unix socket in it."""
    folder = Path(tempfile.mkdtemp(prefix="b-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def start_valkey(tmp_path: Path) -> Iterator[Callable[..., ValkeyServer]]:
    """Return a function that starts servers for one test: ``start_valkey(unix_socket_path=None, **config)``."""
    servers: list[ValkeyServer] = []

    def start(unix_socket_path: Path | None = None, **config: object) -> ValkeyServer:
        folder = tmp_path / f"valkey{len(servers)}"
        server = ValkeyServer(data_dir=folder, persist=True, unix_socket_path=unix_socket_path, config=config)
        server.start()
        servers.append(server)
        return server

    yield start
    for server in servers:
        if server.is_running() or server._process is not None:
            server.terminate()


@pytest.fixture
def start_redis(tmp_path: Path) -> Iterator[Callable[..., RedisServer]]:
    """Return a function that starts redis-server for one test: ``start_redis(**{"tls-port": "0"})``."""
    if shutil.which("redis-server") is None:
        pytest.skip("no redis-server on PATH; install Redis >= 7")
    servers: list[RedisServer] = []

    def start(**options: str) -> RedisServer:
        folder = tmp_path / f"redis{len(servers)}"
        folder.mkdir()
        server = RedisServer(folder, options, free_port())
        servers.append(server)
        server.start()
        return server

    yield start
    for server in servers:
        server.stop()


@pytest.fixture
def tls_server(start_redis: Callable[..., RedisServer], tmp_path: Path) -> RedisServer:
    """A Redis that accepts only TLS, with a certificate from an authority of its own."""
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1", "localhost")
    files = {name: tmp_path / name for name in ("ca.pem", "cert.pem", "key.pem")}
    authority.cert_pem.write_to_path(files["ca.pem"])
    certificate.cert_chain_pems[0].write_to_path(files["cert.pem"])
    certificate.private_key_pem.write_to_path(files["key.pem"])
    port = str(free_port())
    options = {
        "port": "0",
        "tls-port": port,
        "tls-cert-file": str(files["cert.pem"]),
        "tls-key-file": str(files["key.pem"]),
        "tls-ca-cert-file": str(files["ca.pem"]),
        "tls-auth-clients": "no",
    }
    return start_redis(**options)


@pytest.fixture
def tls_settings(tls_server: RedisServer) -> RedisSettings:
    """The settings for the Redis that accepts only TLS."""
    options = tls_server.options
    return RedisSettings(url=f"rediss://127.0.0.1:{options['tls-port']}", ca_file=Path(options["tls-ca-cert-file"]))


@pytest.fixture(scope="session")
def valkey_url() -> Iterator[str]:
    """A Valkey shared by the tests that need no special configuration."""
    server = ValkeyServer(config={"appendonly": "yes", "appendfsync": "everysec"})
    server.start()
    yield server.connection_url
    server.stop()


@pytest.fixture(params=["valkey", "redis"])
def redis_settings(request: pytest.FixtureRequest) -> RedisSettings:
    """The settings for the newest and the oldest server that we support; a test runs on both."""
    return RedisSettings(url=request.getfixturevalue(f"{request.param}_url"))


@pytest.fixture
def run() -> str:
    """A unique run, because tests share their servers."""
    return f"test-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def password() -> SecretStr:
    return SecretStr("s3cret-of-the-test")
