"""redis-server from PATH, on 127.0.0.1."""

import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.limits import HANG_S


@dataclass
class RedisServer:
    """A redis-server process; ``start`` and ``stop`` block."""

    folder: Path
    options: dict[str, str]
    port: int
    process: "subprocess.Popen[bytes] | None" = field(default=None, repr=False)

    @property
    def connection_url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def start(self) -> None:
        command = ["redis-server", "--bind", "127.0.0.1", "--dir", str(self.folder), "--save", ""]
        for name, value in {"port": str(self.port), **self.options}.items():
            command += [f"--{name}", value]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        deadline = time.monotonic() + HANG_S
        port = int(self.options.get("tls-port", self.port))
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
            except OSError:
                if time.monotonic() > deadline or self.process.poll() is not None:
                    pytest.fail(f"redis-server did not start: {(self.folder / 'log').read_text()[-500:]}")
                time.sleep(0.01)
            else:
                return

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(HANG_S)
            self.process = None
