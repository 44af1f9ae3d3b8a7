import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from borgcore.eventstore.settings import StoreSettings
from borglogshipper.stores.open import open_store
from borglogshipper.stores.store import Store
from tests.limits import HANG_S
from tests.sink import Sink


class Server:
    """The real Elasticsearch, asked without our own code."""

    def __init__(self, session: aiohttp.ClientSession, prefix: str) -> None:
        self.prefix = prefix
        self._session = session

    async def ask(self, method: str, path: str, body: object = None) -> Any:
        async with self._session.request(method, path, json=body) as response:
            return await response.json()

    async def block(self, index: str, name: str, *, on: bool) -> None:
        await self.ask("PUT", f"/{self.prefix}{index}/_settings", {f"index.blocks.{name}": on or None})

    async def clean(self) -> None:
        for row in await self.ask("GET", f"/_cat/indices/{self.prefix}*?format=json&expand_wildcards=all"):
            name = row["index"].removeprefix(self.prefix)
            await self.block(name, "read_only", on=False)
            await self.ask("DELETE", f"/{row['index']}")
        await self.ask("DELETE", f"/_index_template/{self.prefix}*")


@pytest.fixture
async def server(elasticsearch_url: str) -> AsyncIterator[Server]:
    async with aiohttp.ClientSession(elasticsearch_url) as session:
        server = Server(session, f"test-stores-{uuid.uuid4().hex[:12]}-")
        yield server
        await server.clean()


@pytest.fixture
async def elastic(server: Server, elasticsearch_url: str) -> AsyncIterator[Store]:
    async with open_store(StoreSettings(prefix=server.prefix), elasticsearch_url) as store:
        yield store


@pytest.fixture
async def sqlite(tmp_path: Path) -> AsyncIterator[Store]:
    async with open_store(StoreSettings(), f"sqlite:///{tmp_path}/events.sqlite") as store:
        yield store


@pytest.fixture(params=["elastic", "sqlite"])
def store(request: pytest.FixtureRequest) -> Store:
    """Each of the two, one after the other."""
    found: Store = request.getfixturevalue(request.param)
    return found


@pytest.fixture
async def scripted(sink: Sink) -> AsyncIterator[Store]:
    """The store in Elasticsearch, on the sink."""
    async with open_store(StoreSettings(timeout_s=HANG_S), f"http://{sink.address}") as store:
        yield store
