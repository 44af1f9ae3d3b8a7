"""Each of the two logs, with names of the test's own."""

import uuid
from collections.abc import AsyncIterator

import pytest

from borgcore.settings.sections import EventsSettings
from tests.integration.eventlog.kafka_log import delete_topics


@pytest.fixture(params=["kafka", "valkey", "redis"])
async def log(request: pytest.FixtureRequest) -> AsyncIterator[EventsSettings]:
    """Kafka, and Redis Streams on the newest and on the oldest server."""
    if request.param != "kafka":
        yield EventsSettings(url=request.getfixturevalue(f"{request.param}_url"))
        return
    address = request.getfixturevalue("kafka_address")
    settings = EventsSettings(url=f"kafka://{address}", prefix=f"t{uuid.uuid4().hex[:12]}.", timeout_s=5.0)
    yield settings
    await delete_topics(settings)
