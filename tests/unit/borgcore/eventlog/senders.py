"""Puts a test's sender in the place of the log's."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from borgcore.eventlog import publisher
from borgcore.settings.sections import EventsSettings


def use_sender(monkeypatch: pytest.MonkeyPatch, sender: Any) -> None:
    """Let publishers that are opened from now on send by ``sender``, without waiting for a batch to fill."""

    @asynccontextmanager
    async def open_sender(settings: EventsSettings, run: str) -> AsyncIterator[Any]:  # noqa: ARG001  # its signature
        yield sender

    monkeypatch.setattr(publisher, "open_sender", open_sender)
    monkeypatch.setattr(publisher, "LINGER_S", 0.0)
