"""Serves /healthz, /readyz and /metrics (Prometheus' text format) of a service on an address of its own.

They are answered on the service's own event loop on purpose: a blocked loop does not answer.
"""

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager

import anyio
from aiohttp import web
from anyio import CancelScope
from prometheus_client import CollectorRegistry, exposition
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from borgcore.errors import SettingsError

_CLOSE_S = 1.0
Metrics = Callable[[], Iterable[Metric]]
UnavailableReason = Callable[[], str | None]
"""Returns why something is unavailable at present; None while it is available."""


class Health:
    """The state that a service reports about itself.

    ``ready`` tells callers whether it does its work now; ``faults``, by subject, need a person to fix something.
    """

    def __init__(self) -> None:
        self.ready = False
        self.faults: dict[str, str] = {}
        self._needs: dict[str, UnavailableReason] = {}
        self._registry = CollectorRegistry()

    def need(self, subject: str, reason: UnavailableReason) -> None:
        """Be ready only while ``reason`` returns None; it is called for every /readyz."""
        self._needs[subject] = reason

    def export(self, metrics: Metrics) -> None:
        """Add what ``metrics`` returns to /metrics; it is called for every scrape."""
        self._registry.register(_Collector(metrics))

    async def healthz(self, _request: web.Request) -> web.Response:
        """Answer 200 if nothing needs a person, else 503 with the faults."""
        return _answer(self.faults)

    async def readyz(self, _request: web.Request) -> web.Response:
        """Answer 200 if the service does its work, else 503 with the reasons."""
        reasons = {subject: reason() for subject, reason in self._needs.items()}
        unavailable = {subject: reason for subject, reason in reasons.items() if reason is not None}
        return _answer(self.faults | unavailable or ({} if self.ready else {"service": "not ready"}))

    async def metrics(self, _request: web.Request) -> web.Response:
        """Answer with all exported metrics."""
        headers = {"Content-Type": exposition.CONTENT_TYPE_LATEST}
        return web.Response(body=exposition.generate_latest(self._registry), headers=headers)


class _Collector(Collector):
    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics()

    def describe(self) -> Iterable[Metric]:
        return []  # so that registering reads nothing


def _answer(faults: dict[str, str]) -> web.Response:
    text = "\n".join(f"{subject}: {reason}" for subject, reason in sorted(faults.items())) or "ok"
    return web.Response(text=text + "\n", status=503 if faults else 200)


@asynccontextmanager
async def open_health(address: str | None) -> AsyncIterator[Health]:
    """Serve the three pages at ``host:port`` inside the block; without an address only keep their state.

    Raises:
        SettingsError: the address is not host:port, or cannot be bound.
    """
    health = Health()
    if not address:
        yield health
        return
    host, port = _split(address)
    app = web.Application()
    app.add_routes(
        [web.get("/healthz", health.healthz), web.get("/readyz", health.readyz), web.get("/metrics", health.metrics)]
    )
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=_CLOSE_S)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host, port).start()
        except (OSError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or error
            raise SettingsError(f"health_address: cannot listen on {address}: {reason}; nothing was started") from None
        yield health
    finally:
        with CancelScope(shield=True), anyio.move_on_after(2 * _CLOSE_S):
            await runner.cleanup()


def _split(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65_535:  # noqa: PLR2004  # the highest port
        raise SettingsError(f"health_address: found {address!r}, expected host:port; nothing was started")
    return host.strip("[]"), int(port)
