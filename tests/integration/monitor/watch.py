"""The monitor without its clock, and a proxy that counts round trips."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
from anyio.abc import SocketStream

from borgcore.events.monitoring import MemorySampled, MemoryWarned
from borgcore.service.health import Health
from borgmonitor.nodes import Nodes
from borgmonitor.service import Monitor
from borgmonitor.settings import MonitorSettings
from tests.limits import HANG_S

LOOK_S = 0.02


class Watch:
    """Polls when it is told to, and keeps what would be published."""

    def __init__(self, settings: MonitorSettings) -> None:
        self.events: list[Any] = []
        self.health = Health()
        self.nodes = Nodes(settings.redis, settings.run)
        self.monitor = Monitor(settings, self.events.append, self.health)

    async def poll(self) -> list[MemorySampled]:
        """The samples of one poll."""
        before = len(self.events)
        self.monitor.take(await self.nodes.poll(), 0)
        return [event for event in self.events[before:] if isinstance(event, MemorySampled)]

    async def sample(self) -> MemorySampled:
        """The one sample of one poll."""
        (sample,) = await self.poll()
        return sample

    async def until(self, holds: Callable[["Watch"], bool]) -> None:
        """Poll again and again; the test's limit is its end."""
        while not holds(self):
            await anyio.sleep(LOOK_S)
            await self.poll()

    @property
    def warned(self) -> list[tuple[str, str]]:
        """Kind and state of each warning so far."""
        return [(event.kind, event.state) for event in self.events if isinstance(event, MemoryWarned)]

    def warnings(self) -> list[MemoryWarned]:
        return [event for event in self.events if isinstance(event, MemoryWarned)]


@asynccontextmanager
async def watching(url: str, run: str, **changed: Any) -> AsyncIterator[Watch]:
    """Watch a server; what comes and goes is cleared at once, unless told otherwise."""
    given: dict[str, Any] = {"redis_url": url, "run": run, "clear_s": 0.001, "redis_timeout_s": HANG_S} | changed
    watch = Watch(MonitorSettings(**given))
    try:
        yield watch
    finally:
        await watch.nodes.close()


@dataclass
class Proxy:
    """Stands before a server and counts how often the direction turned: the round trips."""

    port: int
    round_trips: int = 0
    _asked: bool = field(default=False, repr=False)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def ask(self) -> None:
        self.round_trips += not self._asked
        self._asked = True

    def answer(self) -> None:
        self._asked = False


@asynccontextmanager
async def proxied(server_port: int) -> AsyncIterator[Proxy]:
    """Count the round trips to a server of 127.0.0.1 within the block."""
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    proxy = Proxy(int(listener.extra(anyio.abc.SocketAttribute.local_port)))  # noqa: S610 - not Django

    async def copy(source: SocketStream, target: SocketStream, seen: Callable[[], None]) -> None:
        async for piece in source:
            seen()
            await target.send(piece)
        await target.send_eof()

    async def handle(client: SocketStream) -> None:
        server = await anyio.connect_tcp("127.0.0.1", server_port)
        async with client, server, anyio.create_task_group() as group:
            group.start_soon(copy, client, server, proxy.ask)
            group.start_soon(copy, server, client, proxy.answer)

    async with listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, handle)
        yield proxy
        group.cancel_scope.cancel()
