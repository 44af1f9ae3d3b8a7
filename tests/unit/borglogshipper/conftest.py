import anyio
import pytest

from borgcore.service.health import Health
from borglogshipper.pipeline.delivery import Delivery
from borglogshipper.pipeline.progress import ShippingProgress, Troubles
from borglogshipper.settings import RetrySettings

from .pipeline.fakes import FakeConsumer, FakeStore


@pytest.fixture
def store() -> FakeStore:
    return FakeStore()


@pytest.fixture
def consumer() -> FakeConsumer:
    return FakeConsumer()


@pytest.fixture
def health() -> Health:
    return Health()


@pytest.fixture
def progress() -> ShippingProgress:
    return ShippingProgress()


@pytest.fixture
def delivery(store: FakeStore, consumer: FakeConsumer, progress: ShippingProgress, health: Health) -> Delivery:
    return Delivery(store, consumer, RetrySettings(), progress, Troubles(health), outage_s=5.0)


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Record every wait; none takes any time."""
    seen: list[float] = []

    async def sleep(delay_s: float) -> None:
        seen.append(delay_s)
        await anyio.lowlevel.checkpoint()

    monkeypatch.setattr("borglogshipper.pipeline.delivery.anyio.sleep", sleep)
    return seen
