"""An agent's state, without servers."""

import os

import pytest

from borgagent.settings import AgentSettings
from borgagent.telemetry.state import AgentState

from .fakes import FakeMembership, FakePublisher, FakeReplay


@pytest.fixture
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.upper().startswith("BORG_"):
            monkeypatch.delenv(name)


@pytest.fixture
def state(no_settings_from_outside: None) -> AgentState:
    del no_settings_from_outside
    settings = AgentSettings.load(["--run", "r1", "--game", "catch", "--device", "cpu"])
    return AgentState(settings, FakeMembership(), FakeReplay())  # type: ignore[arg-type]  # as much as is read of them


@pytest.fixture
def publisher() -> FakePublisher:
    return FakePublisher()
