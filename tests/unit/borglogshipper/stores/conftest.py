from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from borglogshipper.stores.retention import Retention
from borglogshipper.stores.sqlite import SqliteStore, open_sqlite


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "runs/pong/events.sqlite"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SqliteStore]:
    async with open_sqlite(path, Retention()) as opened:
        yield opened
