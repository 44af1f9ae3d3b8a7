"""Redis, Kafka and Elasticsearch for tests: named by the environment, else in Docker; without both their tests skip."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from pydantic import SecretStr

from tests.containers import (
    KAFKA_PASSWORD,
    KAFKA_USER,
    ContainedServer,
    removing_containers,
    run_elasticsearch,
    run_kafka,
    run_redis,
    why_missing,
)
from tests.limits import HANG_S, LONG_TEST_TIMEOUT_S, SCRIPT_S
from tests.redis_server import RedisServer

from .ports import free_port


def server_from(variable: str, what: str) -> str:
    """Return the server that a variable names, or skip the test."""
    found = os.environ.get(variable)
    if not found:
        pytest.skip(f"no {what}: set {variable}")
    return found


@dataclass(frozen=True)
class Named:
    """A server that a variable may name, and that runs in Docker otherwise."""

    variable: str
    what: str
    service: str
    """Its name in deploy/compose.yaml."""

    @property
    def named(self) -> str | None:
        return os.environ.get(self.variable)

    def expect_docker(self, request: pytest.FixtureRequest) -> None:
        """Skip the test if Docker cannot run the server."""
        if reason := request.config.stash[MISSING].get(self.service):
            pytest.skip(f"no {self.what}: set {self.variable}, or start Docker ({reason})")
        request.getfixturevalue("reaper")


SCRIPT = "to kill and restart (a script with start, stop and fetch)"
SERVERS = {
    "redis_url": Named("TEST_BORG_REDIS", "Redis (host:port, version 7 or later)", "redis"),
    "kafka_address": Named("TEST_BORG_KAFKA", "Kafka (host:port, without TLS and SASL)", "kafka"),
    "kafka_sasl": Named("TEST_BORG_KAFKA_SASL", "Kafka with SASL (user:password@host:port)", "kafka"),
    "private_kafka": Named("TEST_BORG_KAFKA_SCRIPT", f"Kafka {SCRIPT}", "kafka"),
    "elasticsearch_url": Named("TEST_BORG_ELASTICSEARCH", "Elasticsearch (http://host:port)", "elasticsearch"),
    "private_elasticsearch": Named("TEST_BORG_ELASTICSEARCH_SCRIPT", f"Elasticsearch {SCRIPT}", "elasticsearch"),
}
"""The fixtures, and what each gives."""
MISSING = pytest.StashKey[dict[str, str]]()
"""Why Docker cannot run a service."""


def pytest_collection_finish(session: pytest.Session) -> None:
    """Pull images before the first test, and let tests wait for containers: no outcome depends on speed."""
    wanted: set[str] = set()
    for item in session.items:
        fixtures = {"redis_url" if name == "redis_settings" else name for name in getattr(item, "fixturenames", ())}
        services = {server.service for name, server in SERVERS.items() if name in fixtures and not server.named}
        if services and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(LONG_TEST_TIMEOUT_S))
        wanted |= services
    if not session.config.option.collectonly:
        reasons = {service: why_missing(service) for service in sorted(wanted)}
        session.config.stash[MISSING] = {service: reason for service, reason in reasons.items() if reason}


@pytest.fixture(scope="session")
def reaper() -> Iterator[None]:
    """No container outlives the session."""
    with removing_containers():
        yield


@pytest.fixture(scope="session")
def redis_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """A Redis shared by the tests that need no special configuration."""
    shared = SERVERS["redis_url"]
    if shared.named:
        yield f"redis://{shared.named}"
        return
    if shutil.which("redis-server") is None or not request.config.stash[MISSING].get(shared.service):
        shared.expect_docker(request)
        with run_redis() as contained:
            yield f"redis://{contained.address}"
        return
    folder = Path(tempfile.mkdtemp(prefix="borg-redis-"))
    server = RedisServer(folder, {"appendonly": "yes"}, free_port())
    server.start()
    yield server.connection_url
    server.stop()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def kafka_in_docker() -> Iterator[tuple[str, str]]:
    """Addresses of a Kafka shared by all tests: without and with SASL."""
    sasl_port = free_port()
    with run_kafka(sasl_port) as server:
        yield server.address, f"127.0.0.1:{sasl_port}"


@pytest.fixture(scope="session")
def kafka_address(request: pytest.FixtureRequest) -> str:
    """A Kafka shared by all tests; each test prefixes its topics."""
    shared = SERVERS["kafka_address"]
    if shared.named:
        return shared.named
    shared.expect_docker(request)
    address, _ = request.getfixturevalue("kafka_in_docker")
    return str(address)


@pytest.fixture(scope="session")
def kafka_sasl(request: pytest.FixtureRequest) -> tuple[str, str, SecretStr]:
    """Address, user and password of a Kafka that speaks SASL PLAIN and SCRAM without TLS."""
    shared = SERVERS["kafka_sasl"]
    if shared.named:
        login, _, address = shared.named.rpartition("@")
        user, _, word = login.partition(":")
        return address, user, SecretStr(word)
    shared.expect_docker(request)
    _, address = request.getfixturevalue("kafka_in_docker")
    return address, KAFKA_USER, SecretStr(KAFKA_PASSWORD)


@dataclass
class ScriptedServer:
    """A server that one test owns, run by a script; its calls block."""

    script: str
    folder: Path
    port: int
    pid_file: Path
    environment: dict[str, str]
    """Variables for the script."""

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        self._call("start")

    def stop(self) -> None:
        self._call("stop")

    def kill(self) -> None:
        os.kill(int(self.pid_file.read_text()), signal.SIGKILL)
        deadline = time.monotonic() + HANG_S
        with contextlib.suppress(ConnectionRefusedError):
            while time.monotonic() < deadline:  # until its port is free again
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                time.sleep(0.01)

    def _call(self, *arguments: str) -> None:
        environment = os.environ | self.environment
        with (self.folder / "script.log").open("ab") as log:
            done = subprocess.run(
                [self.script, *arguments], check=False, env=environment, stdout=log, stderr=log, timeout=SCRIPT_S
            )
        if done.returncode:
            pytest.fail(f"{self.script}: {(self.folder / 'script.log').read_text()[-500:]}")


@pytest.fixture(scope="session")
def kafka_libs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Kafka's jars: the folder that TEST_BORG_KAFKA_LIBS names, or a download shared by all tests."""
    script = server_from("TEST_BORG_KAFKA_SCRIPT", "Kafka to kill and restart (a script with start, stop and fetch)")
    if named := os.environ.get("TEST_BORG_KAFKA_LIBS"):
        return Path(named)
    folder = tmp_path_factory.mktemp("kafka")
    subprocess.run([script, "fetch"], env=os.environ | {"KAFKA_HOME_DIR": str(folder)}, check=True, timeout=SCRIPT_S)
    return next(folder.glob("libs-*"))


@pytest.fixture
def scripted_kafka(kafka_libs: Path, tmp_path: Path) -> Iterator[ScriptedServer]:
    """A Kafka that the test may kill and restart, also with other properties."""
    folder = tmp_path / "kafka"
    folder.mkdir()
    (folder / kafka_libs.name).symlink_to(kafka_libs)
    port = free_port()
    own = {"KAFKA_HOME_DIR": str(folder), "KAFKA_PORT": str(port), "KAFKA_SASL_PORT": ""}
    own |= {"KAFKA_CONTROLLER_PORT": str(free_port()), "KAFKA_XMX": "256m"}
    server = ScriptedServer(os.environ["TEST_BORG_KAFKA_SCRIPT"], folder, port, folder / "kafka.pid", own)
    server.start()
    yield server
    server.stop()
    shutil.rmtree(folder / "data", ignore_errors=True)


@pytest.fixture
def private_kafka(request: pytest.FixtureRequest) -> Iterator[ScriptedServer | ContainedServer]:
    """A Kafka that the test may kill and restart."""
    private = SERVERS["private_kafka"]
    if private.named:
        yield request.getfixturevalue("scripted_kafka")
        return
    private.expect_docker(request)
    with run_kafka(free_port()) as server:
        yield server


@pytest.fixture(scope="session")
def elasticsearch_distribution() -> Iterator[Path]:
    """Elasticsearch's distribution, fetched once for all tests."""
    script = server_from(
        "TEST_BORG_ELASTICSEARCH_SCRIPT", "Elasticsearch to kill and restart (a script with start, stop and fetch)"
    )
    with _public_folder() as folder:
        subprocess.run([script, "fetch"], env=os.environ | {"ES_STATE_DIR": str(folder)}, check=True, timeout=SCRIPT_S)
        yield next(folder.glob("elasticsearch-*"))


@pytest.fixture
def scripted_elasticsearch(elasticsearch_distribution: Path) -> Iterator[ScriptedServer]:
    """An Elasticsearch that the test may kill and restart."""
    with _public_folder() as folder:
        (folder / elasticsearch_distribution.name).symlink_to(elasticsearch_distribution)
        port = free_port()
        own = {"ES_STATE_DIR": str(folder), "ES_PORT": str(port), "ES_TRANSPORT_PORT": str(free_port())}
        script = os.environ["TEST_BORG_ELASTICSEARCH_SCRIPT"]
        server = ScriptedServer(script, folder, port, folder / "run" / "es.pid", own)
        server.start()
        yield server
        server.stop()


@pytest.fixture
def private_elasticsearch(request: pytest.FixtureRequest) -> Iterator[ScriptedServer | ContainedServer]:
    """An Elasticsearch that the test may kill and restart."""
    private = SERVERS["private_elasticsearch"]
    if private.named:
        yield request.getfixturevalue("scripted_elasticsearch")
        return
    private.expect_docker(request)
    with run_elasticsearch() as server:
        yield server


@contextlib.contextmanager
def _public_folder() -> Iterator[Path]:
    """Create a folder that other users may enter: Elasticsearch refuses to run as root."""
    folder = Path(tempfile.mkdtemp(prefix="borg-elasticsearch-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def elasticsearch_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """An Elasticsearch 8.19 shared by all tests; each test prefixes its indices."""
    shared = SERVERS["elasticsearch_url"]
    if shared.named:
        yield shared.named
        return
    shared.expect_docker(request)
    with run_elasticsearch() as server:
        yield f"http://{server.address}"
