"""A shipper over a fake log and a fake store, and a way to wait for it."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import anyio
from anyio import CancelScope

from borgcore.service.health import Health
from borglogshipper.pipeline.delivery import Delivery
from borglogshipper.pipeline.progress import ShippingProgress, Troubles
from borglogshipper.pipeline.shipper import Shipper
from borglogshipper.settings import BatchSettings, LogshipperSettings, RetrySettings
from borglogshipper.stores.store import Documents, Verdict
from tests.limits import HANG_S

from .fakes import FakeConsumer, FakePublisher, FakeStore

LONG_S = 100.0  # longer than any test
LOOK_S = 0.002


class GatedStore(FakeStore):
    """Writes of documents that contain a word wait until its gate is opened."""

    def __init__(self) -> None:
        super().__init__()
        self.gates: dict[bytes, anyio.Event] = {}

    def gate(self, word: bytes) -> anyio.Event:
        self.gates[word] = anyio.Event()
        return self.gates[word]

    async def write(self, documents: Documents) -> Mapping[int, Verdict]:
        for word, opened in self.gates.items():
            if any(word in body for body in documents.bodies):
                await opened.wait()
        return await super().write(documents)


class Ship:
    """A shipper with its fakes."""

    def __init__(self, *, grace_s: float = 10.0, commit_period_s: float = 0.01, **batch: Any) -> None:
        self.settings = LogshipperSettings(
            grace_s=grace_s,
            commit_period_s=commit_period_s,
            batch=BatchSettings(**({"linger_s": 0.01} | batch)),
            retry=RetrySettings(first_s=0.001, limit_s=0.002),
            max_document_bytes=2_000,
        )
        self.progress, self.health = ShippingProgress(), Health()
        self.store, self.consumer, self.publisher = GatedStore(), FakeConsumer(), FakePublisher()
        self.delivery = Delivery(
            self.store,
            self.consumer,
            self.settings.retry,
            self.progress,
            Troubles(self.health),
            outage_s=0.1,
        )
        self.shipper = Shipper(self.settings, "host-1", self.progress)
        self.intake = CancelScope()
        self.ended = anyio.Event()

    async def run(self) -> None:
        try:
            await self.shipper.run(self.consumer, self.delivery, self.publisher, self.intake)  # type: ignore[arg-type]  # a fake publisher
        finally:
            self.ended.set()


@asynccontextmanager
async def shipping(ship: Ship) -> AsyncIterator[None]:
    """Ship within the block; at its end the intake is cancelled, and the records read are drained."""
    with anyio.fail_after(HANG_S):
        async with anyio.create_task_group() as group:
            group.start_soon(ship.run)
            yield
            ship.intake.cancel()


async def until(condition: Callable[[], object]) -> None:
    """Poll until the condition holds; the caller bounds the time."""
    while not condition():  # noqa: ASYNC110  # the condition sets no event
        await anyio.sleep(LOOK_S)
