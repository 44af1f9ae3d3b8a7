"""Run a Kafka that can be killed, by the script in TEST_BORG_KAFKA_SCRIPT (start, stop, fetch)."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.shared.turns import free_port

START_LIMIT_S = 90.0
FETCH_LIMIT_S = 300.0
KILL_LIMIT_S = 10.0


@dataclass(frozen=True)
class Broker:
    """One broker; all methods block."""

    script: str
    folder: Path
    port: int
    controller_port: int

    @property
    def address(self) -> str:
        """host:port."""
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it; return when it answers."""
        self._call("start", START_LIMIT_S)

    def stop(self) -> None:
        """Stop it gracefully."""
        self._call("stop", START_LIMIT_S)

    def kill(self) -> None:
        """Kill it by SIGKILL; return when its port is free again."""
        os.kill(int((self.folder / "kafka.pid").read_text()), signal.SIGKILL)
        deadline_s = time.monotonic() + KILL_LIMIT_S
        with contextlib.suppress(ConnectionRefusedError):
            while time.monotonic() < deadline_s:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                time.sleep(0.01)

    def fetch(self) -> None:
        """Link Kafka's jars from the folder TEST_BORG_KAFKA_LIBS, or download them if it is not set."""
        if libs := os.environ.get("TEST_BORG_KAFKA_LIBS"):
            (self.folder / Path(libs).name).symlink_to(libs)
        else:
            self._call("fetch", FETCH_LIMIT_S)

    def _call(self, command: str, limit_s: float) -> None:
        variables = {"KAFKA_HOME_DIR": str(self.folder), "KAFKA_PORT": str(self.port), "KAFKA_SASL_PORT": ""}
        variables |= {"KAFKA_CONTROLLER_PORT": str(self.controller_port), "KAFKA_XMX": "256m"}
        output = self.folder / "script.log"
        with output.open("ab") as log:
            done = subprocess.run(
                [self.script, command], check=False, env=os.environ | variables, stdout=log, stderr=log, timeout=limit_s
            )
        if done.returncode:
            sys.exit(f"{self.script} {command}: {output.read_text()[-500:]}")


@contextmanager
def run_broker(folder: Path) -> Iterator[Broker]:
    """Run a broker for the block; its data is in ``folder``."""
    script = os.environ.get("TEST_BORG_KAFKA_SCRIPT")
    if not script:
        sys.exit(
            "TEST_BORG_KAFKA_SCRIPT is not set, expected a script with start, stop and fetch; nothing was measured"
        )
    folder.mkdir()
    broker = Broker(script, folder, free_port(), free_port())
    broker.fetch()
    try:
        broker.start()
        yield broker
    finally:
        broker.stop()
