"""An HTTP server that gives scripted answers and records its requests."""

import ssl
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import anyio
from aiohttp import web

PRODUCT = {"X-Elastic-Product": "Elasticsearch"}


@dataclass
class Answer:
    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=lambda: PRODUCT | {"Content-Type": "application/json"})
    dropped: bool = False
    """Close the connection instead of answering."""
    never: bool = False
    """Do not answer at all."""


@dataclass
class Request:
    method: str
    target: str
    headers: dict[str, str]
    body: bytes


class Sink:
    def __init__(self) -> None:
        self.answers: deque[Answer] = deque()
        self.requests: list[Request] = []
        self.port = 0

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        self.requests.append(Request(request.method, request.path_qs, dict(request.headers), body))
        answer = self.answers.popleft()
        if answer.never:
            await anyio.sleep_forever()
        if answer.dropped:
            assert request.transport is not None
            request.transport.close()
        return web.Response(status=answer.status, body=answer.body, headers=answer.headers)


@asynccontextmanager
async def open_sink(context: ssl.SSLContext | None = None) -> AsyncIterator[Sink]:
    sink = Sink()
    app = web.Application(client_max_size=100_000_000)
    app.router.add_route("*", "/{path:.*}", sink.answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    sink.port = runner.addresses[0][1]
    try:
        yield sink
    finally:
        await runner.cleanup()
