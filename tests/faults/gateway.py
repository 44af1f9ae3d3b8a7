"""Stands between a shipper and the real Elasticsearch, and is where things go wrong."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from io import BytesIO

import orjson
from aiohttp import ClientSession, ClientTimeout, web

from tests.limits import HANG_S

Answer = tuple[int, bytes]
Forward = Callable[[bytes], Awaitable[Answer]]
Fault = Callable[[bytes, Forward], Awaitable[Answer | None]]
"""Takes the body of a _bulk request and what forwards it; returns the answer, or None to drop the connection."""
_PASSED_ON = ("Content-Type", "Authorization", "Accept")


class Gateway:
    """A reverse proxy; ``fault`` decides on each _bulk request, ``down`` refuses every connection."""

    def __init__(self, target: str) -> None:
        self.fault: Fault | None = None
        self.refuse: int | None = None
        """Status with which every request is answered, while it is set."""
        self.bulks = 0
        self.requests_refused = 0
        self._target = target
        self._runner: web.AppRunner | None = None
        self._port = 0
        self._session: ClientSession

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    async def up(self) -> None:
        app = web.Application(client_max_size=1 << 28)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self._port)
        await site.start()
        self._port = self._runner.addresses[0][1]

    async def down(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()

        async def forward(changed: bytes) -> Answer:
            headers = {name: request.headers[name] for name in _PASSED_ON if name in request.headers}
            url = self._target + request.path_qs
            async with self._session.request(request.method, url, data=BytesIO(changed), headers=headers) as reply:
                return reply.status, await reply.read()

        if self.refuse is not None:
            self.requests_refused += 1
            error = {"error": {"type": "security_exception", "reason": "refused by the test"}, "status": self.refuse}
            return _respond((self.refuse, orjson.dumps(error)))
        if not request.path.endswith("/_bulk"):
            return _respond(await forward(body))
        self.bulks += 1
        answer = await (forward(body) if self.fault is None else self.fault(body, forward))
        if answer is None:
            if request.transport is not None:
                request.transport.abort()
            raise ConnectionResetError
        return _respond(answer)


def _respond(answer: Answer) -> web.Response:
    status, body = answer
    headers = {
        "X-Elastic-Product": "Elasticsearch",
        "Content-Type": "application/vnd.elasticsearch+json; compatible-with=8",
    }
    return web.Response(status=status, body=body, headers=headers)


@asynccontextmanager
async def open_gateway(target: str) -> AsyncIterator[Gateway]:
    gateway = Gateway(target)
    async with ClientSession(timeout=ClientTimeout(HANG_S)) as session:
        gateway._session = session
        await gateway.up()
        try:
            yield gateway
        finally:
            with suppress(Exception):
                await gateway.down()


def without_items(body: bytes, chosen: Callable[[str], bool]) -> tuple[bytes, list[str | None]]:
    """Take chosen documents out of a _bulk request; returns the rest, and the ids in order, None where it stays."""
    lines = body.split(b"\n")
    kept, taken = [], []
    for action, document in zip(lines[::2], lines[1::2], strict=False):
        if not action:
            continue
        identifier = orjson.loads(action)["create"]["_id"]
        if chosen(identifier):
            taken.append(identifier)
        else:
            taken.append(None)
            kept += [action, document]
    return b"".join(line + b"\n" for line in kept), taken
