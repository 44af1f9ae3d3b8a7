"""Kafka and Elasticsearch that a script starts, for tests that kill them or change their properties."""

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

from tests.limits import HANG_S, SCRIPT_S

from .ports import free_port


def server_from(variable: str, what: str) -> str:
    """Return the server that a variable names, or skip the test."""
    found = os.environ.get(variable)
    if not found:
        pytest.skip(f"no {what}: set {variable}")
    return found


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


@contextlib.contextmanager
def run_script(libs: Path, folder: Path) -> Iterator[ScriptedServer]:
    """Run a Kafka by the script until the block ends."""
    (folder / libs.name).symlink_to(libs)
    port = free_port()
    own = {"KAFKA_HOME_DIR": str(folder), "KAFKA_PORT": str(port), "KAFKA_SASL_PORT": ""}
    own |= {"KAFKA_CONTROLLER_PORT": str(free_port()), "KAFKA_XMX": "256m"}
    server = ScriptedServer(os.environ["TEST_BORG_KAFKA_SCRIPT"], folder, port, folder / "kafka.pid", own)
    server.start()
    yield server
    server.stop()
    shutil.rmtree(folder / "data", ignore_errors=True)


@pytest.fixture
def scripted_kafka(kafka_libs: Path, tmp_path: Path) -> Iterator[ScriptedServer]:
    """A Kafka whose properties the test may change."""
    (tmp_path / "kafka").mkdir()
    with run_script(kafka_libs, tmp_path / "kafka") as server:
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


@contextlib.contextmanager
def _public_folder() -> Iterator[Path]:
    """Create a folder that other users may enter: Elasticsearch refuses to run as root."""
    folder = Path(tempfile.mkdtemp(prefix="borg-elasticsearch-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
