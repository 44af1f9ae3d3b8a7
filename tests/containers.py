"""Kafka, Elasticsearch and Redis in Docker, of the versions in deploy/compose.yaml, on ports of 127.0.0.1."""

import contextlib
import gc
import os
import re
import socket
import struct
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from docker.errors import DockerException, ImageNotFound
from testcontainers.core.config import testcontainers_config
from testcontainers.core.container import DockerContainer
from testcontainers.core.docker_client import DockerClient
from testcontainers.core.labels import LABEL_SESSION_ID, SESSION_ID

from tests.limits import HANG_S, SCRIPT_S

from .ports import free_port

COMPOSE = Path(__file__).parents[1] / "deploy" / "compose.yaml"
PROPERTIES = Path(__file__).parent / "kafka.properties"
KAFKA_USER, KAFKA_PASSWORD = "test", "test-secret"
KAFKA_START = f"""
scram='[name={KAFKA_USER},password={KAFKA_PASSWORD}]'
/opt/kafka/bin/kafka-storage.sh format --ignore-formatted --standalone --config /tmp/server.properties \
    --cluster-id 5L6g3nShT-eMCtK--X86sw --add-scram "SCRAM-SHA-256=$scram" --add-scram "SCRAM-SHA-512=$scram"
exec java -Xms128m -Xmx512m -XX:+UseSerialGC -cp '/opt/kafka/libs/*' kafka.Kafka /tmp/server.properties
"""


def ask_kafka(api: int, version: int, asked: bytes, answer: bytes) -> tuple[bytes, bytes]:
    """Return a request, number 7, and its answer, without waiting time."""
    request = struct.pack(">hhih", api, version, 7, -1) + asked
    return struct.pack(">i", len(request)) + request, struct.pack(">ii", 7, 0) + answer


# A group's coordinator first makes the topic of offsets, then loads it: its one partition is that of all groups.
KAFKA_QUESTIONS = (
    ask_kafka(10, 1, struct.pack(">h4sb", 4, b"none", 0), struct.pack(">h", 0)),  # who coordinates group none?
    ask_kafka(15, 3, struct.pack(">ih4sb", 1, 4, b"none", 0), struct.pack(">ih", 1, 0)),  # how is it?
)

# Its own reaper would need an image, an open port, and Docker's socket in a container.
testcontainers_config.ryuk_disabled = True
REAPER = """
import sys
sys.stdin.read()  # ends when pytest does
from testcontainers.core.docker_client import DockerClient
for container in DockerClient().client.containers.list(all=True, filters={"label": sys.argv[1]}):
    container.remove(force=True, v=True)
"""


def image_of(service: str) -> str:
    """The image of a service of the full stack; a variable, such as KAFKA_VERSION, changes it as in Docker Compose."""
    image = yaml.safe_load(COMPOSE.read_text())["services"][service]["image"]
    return re.sub(r"\$\{(\w+):-([^}]*)\}", lambda found: os.environ.get(found[1]) or found[2], image)


def why_missing(service: str) -> str | None:
    """Pull the image of a service if it is not here; return the reason if Docker cannot start it."""
    image = image_of(service)
    try:
        docker = DockerClient().client
    except DockerException as error:
        reason = f"Docker does not answer: {error}"
    else:
        with contextlib.closing(docker):
            if docker.api.base_url != "http+docker://localhost":  # what its client calls a unix socket
                return f"Docker at {docker.api.base_url} is on another machine, expected a unix socket"
            try:
                docker.images.get(image)
            except ImageNotFound:
                try:
                    docker.images.pull(image)
                except DockerException as error:
                    return f"Docker has no image {image} and cannot pull it: {error}"
        return None
    with warnings.catch_warnings():  # the client leaves open the socket on which nobody answered
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
    return reason


@dataclass
class ContainedServer:
    """A server in Docker; its calls block."""

    container: DockerContainer
    port: int
    questions: Sequence[tuple[bytes, bytes]]
    """What to send to the port, one after the other, and what the answer contains once the server is up."""

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        if self.container.status == "not_started":
            self.container.start()
        else:
            self.container.get_wrapped_container().start()
        started = self.container.get_wrapped_container()
        deadline = time.monotonic() + SCRIPT_S
        for question, answer in self.questions:
            while answer not in self._ask(question):
                started.reload()
                if started.status != "running" or time.monotonic() > deadline:
                    pytest.fail(f"{self.container.image} is {started.status}, not up: {started.logs(tail=20).decode()}")
                time.sleep(0.1)

    def kill(self) -> None:
        self.container.get_wrapped_container().kill()
        self.container.wait()

    def _ask(self, question: bytes) -> bytes:
        """Ask on the port, which Docker opens before the server does."""
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), HANG_S) as connection:
            connection.sendall(question)
            return connection.recv(1_000)
        return b""


@contextlib.contextmanager
def running(
    service: str,
    ports: Mapping[int, int],
    command: str | Sequence[str] | None = None,
    environment: Mapping[str, str] | None = None,
    files: Mapping[str, str] | None = None,
    *,
    questions: Sequence[tuple[bytes, bytes]],
) -> Iterator[ContainedServer]:
    """Run a server until it answers; ``ports`` says which port of 127.0.0.1 leads to which in the container."""
    container = DockerContainer(image_of(service)).with_envs(**environment or {})
    if command is not None:
        container.with_command(command if isinstance(command, str) else list(command))
    for port, inner in ports.items():
        container.ports[str(inner)] = ("127.0.0.1", port)  # type: ignore[assignment]  # Docker's client takes both
    for path, text in (files or {}).items():
        container.with_copy_into_container(text.encode(), path)
    try:
        server = ContainedServer(container, next(iter(ports)), questions)
        server.start()
        yield server
    finally:
        container.stop()


@contextlib.contextmanager
def removing_containers() -> Iterator[None]:
    """Have a process remove our containers when this one ends, even if it is killed."""
    command = [sys.executable, "-c", REAPER, f"{LABEL_SESSION_ID}={SESSION_ID}"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True) as process:
        yield
        process.communicate(timeout=HANG_S)
    assert process.returncode == 0


@contextlib.contextmanager
def run_redis() -> Iterator[ContainedServer]:
    command = ["redis-server", "--appendonly", "yes", "--save", "", "--protected-mode", "no"]
    with running("redis", {free_port(): 6379}, command, questions=[(b"PING\r\n", b"+PONG")]) as server:
        yield server


@contextlib.contextmanager
def run_elasticsearch() -> Iterator[ContainedServer]:
    environment = {
        "discovery.type": "single-node",
        "xpack.security.enabled": "false",
        "node.store.allow_mmap": "false",  # with mmap the host's vm.max_map_count would have to be raised
        "cluster.routing.allocation.disk.threshold_enabled": "false",
        "ES_JAVA_OPTS": "-Xms512m -Xmx512m",
    }
    question = b"GET /_cluster/health?wait_for_status=yellow&timeout=1s HTTP/1.0\r\n\r\n"
    ports = {free_port(): 9200}
    with running("elasticsearch", ports, environment=environment, questions=[(question, b" 200 OK")]) as server:
        yield server


@contextlib.contextmanager
def run_kafka(sasl_port: int) -> Iterator[ContainedServer]:
    """Run a Kafka without TLS, on ``sasl_port`` with SASL: PLAIN and SCRAM."""
    port = free_port()
    properties = PROPERTIES.read_text().format(port=port, sasl_port=sasl_port, user=KAFKA_USER, password=KAFKA_PASSWORD)
    ports, files = {port: 9092, sasl_port: 9094}, {"/tmp/server.properties": properties}  # noqa: S108  # in the container
    command = ["bash", "-euc", KAFKA_START]
    with running("kafka", ports, command, files=files, questions=KAFKA_QUESTIONS) as server:
        yield server
