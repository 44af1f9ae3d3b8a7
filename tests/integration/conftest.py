from collections.abc import AsyncIterator

import pytest

from tests.sink import Sink, open_sink


@pytest.fixture
async def sink() -> AsyncIterator[Sink]:
    """An Elasticsearch or Kibana that answers as it is told."""
    async with open_sink() as opened:
        yield opened
