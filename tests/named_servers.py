"""Redis, Kafka and Elasticsearch for tests: named by the environment, else in Docker; without both their tests skip."""

import os
import shutil
import tempfile
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
from tests.limits import LONG_TEST_TIMEOUT_S
from tests.redis_server import RedisServer
from tests.scripted_servers import ScriptedServer, run_script

from .ports import free_port


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


@pytest.fixture(scope="session")
def mortal_kafka(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ScriptedServer | ContainedServer]:
    """The Kafka that tests kill, one after the other."""
    private = SERVERS["private_kafka"]
    if private.named:
        libs = request.getfixturevalue("kafka_libs")
        with run_script(libs, tmp_path_factory.mktemp("mortal-kafka")) as scripted:
            yield scripted
        return
    private.expect_docker(request)
    with run_kafka(free_port()) as contained:
        yield contained


@pytest.fixture
def private_kafka(mortal_kafka: ScriptedServer | ContainedServer) -> ScriptedServer | ContainedServer:
    """A Kafka that the test may kill and restart, and only it uses meanwhile; each test prefixes its topics."""
    mortal_kafka.start()  # the last test may have left it dead
    return mortal_kafka


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
