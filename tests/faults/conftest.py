"""Logs, stores and shippers for faults; every test has names of its own in the servers it shares."""

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from borgcore.eventlog.kafka.client import open_admin
from borgcore.settings.sections import EventsSettings

from .gateway import Gateway, open_gateway
from .shipping import Elastic, Shipper, unique

StartShipper = Callable[..., Shipper]


@pytest.fixture
async def kafka(kafka_address: str) -> AsyncIterator[EventsSettings]:
    settings = EventsSettings(url=f"kafka://{kafka_address}", prefix=unique())
    yield settings
    async with open_admin(settings) as admin:
        ours = [topic for topic in await admin.list_topics() if topic.startswith(settings.prefix)]
        if ours:
            await admin.delete_topics(ours)


@pytest.fixture
async def elastic(elasticsearch_url: str) -> AsyncIterator[Elastic]:
    store = Elastic(elasticsearch_url, unique())
    yield store
    await store.clean()


@pytest.fixture
async def gateway(elasticsearch_url: str) -> AsyncIterator[Gateway]:
    async with open_gateway(elasticsearch_url) as opened:
        yield opened


@pytest.fixture
def make_shipper(tmp_path: Path) -> Iterator[StartShipper]:
    """Makes shippers that are killed at the end: ``make_shipper(log, store, url, name="one", **settings)``."""
    made: list[Shipper] = []

    def make(
        log: EventsSettings, store: Elastic | Path, url: str | None = None, name: str = "one", **own: str
    ) -> Shipper:
        options = {
            "BORG_EVENTS_URL": log.url,
            "BORG_EVENTS_PREFIX": log.prefix,
            "BORG_LOGSHIPPER_GROUP": f"{log.prefix}group",
        }
        if isinstance(store, Elastic):
            options["BORG_LOGSHIPPER_STORE__URL"] = url or store.url
            options["BORG_LOGSHIPPER_STORE__PREFIX"] = store.prefix
        else:
            options["BORG_LOGSHIPPER_STORE__URL"] = f"sqlite:///{store}"
        shipper = Shipper(tmp_path, options | own, name)
        made.append(shipper)
        return shipper

    yield make
    for shipper in made:
        shipper.kill()
