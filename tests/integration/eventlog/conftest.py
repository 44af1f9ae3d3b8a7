"""Logs with names of the test's own."""

import uuid
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from borgcore.connection.client import open_redis
from borgcore.settings.sections import EventsSettings, RedisSettings

from .kafka_log import delete_topics


@pytest.fixture
async def kafka(kafka_address: str) -> AsyncIterator[EventsSettings]:
    """A plain Kafka, with a prefix of the test's own."""
    settings = EventsSettings(url=f"kafka://{kafka_address}", prefix=f"t{uuid.uuid4().hex[:12]}.", timeout_s=5.0)
    yield settings
    await delete_topics(settings)


@pytest.fixture
def settings(redis_settings: RedisSettings) -> EventsSettings:
    """Redis Streams, on the newest and on the oldest server."""
    return EventsSettings(url=redis_settings.url)


@pytest.fixture
async def redis(redis_settings: RedisSettings) -> AsyncIterator[Redis]:
    """A client of the server that ``settings`` names."""
    async with open_redis(redis_settings) as redis:
        yield redis
