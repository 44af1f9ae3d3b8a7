from pathlib import Path

import orjson
import pytest

from borgagent.settings import AgentSettings
from borgagent.telemetry.redaction import HIDDEN, redact, redact_url

pytestmark = pytest.mark.usefixtures("no_settings_from_outside")
SECRET = "hunter2"


def test_every_setting_but_secrets_is_disclosed_as_json_has_it(tmp_path: Path) -> None:
    path = tmp_path / "borg.toml"
    path.write_text("[agents.2]\nepsilon = 0.25\n")
    settings = AgentSettings.load(["--run", "r1", "--config", str(path), "--checkpoint-dir", "here"])
    shown = redact(settings)
    assert set(AgentSettings.model_fields) - set(shown) == {"redis_password", "events_password"}
    assert set(shown) <= set(AgentSettings.model_fields)
    assert shown["run"] == "r1"
    assert shown["checkpoint_dir"] == "here"
    assert shown["events_url"] is None
    assert shown["learner"] == settings.learner.model_dump(mode="json")
    assert shown["replay"] == settings.replay.model_dump(mode="json")
    assert shown["agents"] == {"2": {"epsilon": 0.25, "seed": None, "envs": None}}
    assert orjson.loads(orjson.dumps(shown)) == shown


@pytest.mark.parametrize(
    ("redis_url", "events_url"),
    [
        (f"redis://u:{SECRET}@127.0.0.1:1", f"redis://u:{SECRET}@127.0.0.1:2/3"),
        (f"rediss://:{SECRET}@127.0.0.1:1", f"kafka://u:{SECRET}@one:9092,two:9093"),
        (f"unix://u:{SECRET}@/run/s", f"kafka+ssl://u:{SECRET}@[::1]:9092"),
        (f"redis://127.0.0.1:1/{SECRET}@", f"kafka://{SECRET}/@one:x"),
    ],
)
def test_no_secret_appears_in_any_form(monkeypatch: pytest.MonkeyPatch, redis_url: str, events_url: str) -> None:
    monkeypatch.setenv("BORG_REDIS_PASSWORD", SECRET)
    monkeypatch.setenv("BORG_EVENTS_PASSWORD", SECRET)
    monkeypatch.setenv("BORG_REDIS_URL", redis_url)
    monkeypatch.setenv("BORG_EVENTS_URL", events_url)
    settings = AgentSettings.load([])
    assert settings.events.password is not None
    assert settings.events.password.get_secret_value() == SECRET
    text = orjson.dumps(redact(settings)).decode()
    assert SECRET not in text
    assert "password" not in text
    assert "****" not in text


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://127.0.0.1:6390", "redis://127.0.0.1:6390"),
        ("redis://u:p@host/0", "redis://host:6379"),
        ("rediss://:p@host:1", "rediss://host:1"),
        ("unix:///run/s", "unix:///run/s"),
        ("unix://u:p@/run/s", "unix:///run/s"),
        ("redis://host:1?password=p", HIDDEN),
        ("redis://u:p#q@host:1", HIDDEN),
        ("no url", HIDDEN),
        ("kafka://one:9092,two:9093", "kafka://one:9092,two:9093"),
        ("kafka+ssl://[::1]:9092/", "kafka+ssl://[::1]:9092"),
        ("kafka://one", "kafka://one:9092"),
        ("kafka://u:p@one:1", HIDDEN),
        ("kafka://one:1,u:p@", HIDDEN),
        ("kafka://one:pass", HIDDEN),
        ("kafka://one:9092?password=p", HIDDEN),
        ("kafka://", HIDDEN),
    ],
)
def test_of_a_url_scheme_and_address_are_disclosed_and_nothing_of_a_wrong_one(url: str, shown: str) -> None:
    assert redact_url(url) == shown
