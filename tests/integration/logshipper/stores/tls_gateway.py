"""A gateway that adds to Elasticsearch what the one here lacks: TLS, and logins that may change."""

import ssl
from pathlib import Path

import aiohttp
import trustme
from aiohttp import web

REFUSAL = b'{"error":{"type":"security_exception","reason":"unable to authenticate"},"status":401}'
_HOP = frozenset({"host", "authorization", "connection", "content-length", "transfer-encoding", "content-encoding"})


class TlsGateway:
    """Passes requests with the ``accepted`` Authorization header on to a real Elasticsearch."""

    def __init__(self, elasticsearch_url: str) -> None:
        self.accepted = ""
        self.refused = 0
        self.port = 0
        self._url = elasticsearch_url
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    async def start(self, ca_file: Path) -> None:
        """Start with a certificate of a new authority, written to ``ca_file``; the port stays."""
        await self.stop()
        authority = trustme.CA()
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert("127.0.0.1").configure_cert(context)
        authority.cert_pem.write_to_path(ca_file)
        app = web.Application(client_max_size=100_000_000)
        app.router.add_route("*", "/{path:.*}", self._pass_on)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port, ssl_context=context).start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _pass_on(self, request: web.Request) -> web.Response:
        if request.headers.get("Authorization") != self.accepted:
            self.refused += 1
            headers = {"X-Elastic-Product": "Elasticsearch", "Content-Type": "application/json"}
            return web.Response(status=401, body=REFUSAL, headers=headers)
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _HOP}
        async with (
            aiohttp.ClientSession() as session,
            session.request(
                request.method, self._url + request.path_qs, data=await request.read(), headers=headers
            ) as answer,
        ):
            kept = {name: value for name, value in answer.headers.items() if name.lower() not in _HOP}
            return web.Response(status=answer.status, body=await answer.read(), headers=kept)
