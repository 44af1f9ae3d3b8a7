"""Each service of the full stack finds its own user and password in its variables and its folder of keys."""

import os
import re
from pathlib import Path

import pytest

from borgagent.settings import AgentSettings
from borgcore.settings.service import ServiceSettings
from borglogshipper.settings import LogshipperSettings
from borgmonitor.settings import MonitorSettings
from borgsetup.keys import KAFKA_PASSWORDS, SETUP, make_keys
from borgsetup.settings import SetupSettings
from tests.unit.deploy.stack_file import environment

OURS: dict[str, tuple[type[ServiceSettings], str, list[str]]] = {
    "agent": (AgentSettings, "agent", []),
    "monitor": (MonitorSettings, "monitor", []),
    "logshipper": (LogshipperSettings, "logshipper", []),
    "setup": (SetupSettings, SETUP, ["topics"]),
}


@pytest.mark.parametrize("user", sorted(OURS))
def test_a_service_connects_to_kafka_as_itself(user: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_keys(tmp_path)
    kind, folder, arguments = OURS[user]
    for name in [name for name in os.environ if name.startswith("BORG_")]:
        monkeypatch.delenv(name)
    for name, value in environment("topics" if user == "setup" else user).items():
        monkeypatch.setenv(name, re.sub(r"\$\{\w+:-(.*)\}", r"\1", value))
    monkeypatch.setenv("BORG_SECRETS_DIR", str(tmp_path / folder))
    monkeypatch.delenv("BORG_CONFIG", raising=False)  # a file of the container
    events = kind.load(arguments).events
    assert (events.user, events.sasl, events.url) == (user, "PLAIN", "kafka://kafka:9092")
    assert events.password
    assert events.password.get_secret_value() == (tmp_path / SETUP / KAFKA_PASSWORDS[user]).read_text()
