import sys
from pathlib import Path
from urllib.parse import unquote

import pytest
from pydantic import SecretStr

from borgagent.settings import AgentSettings
from borgcli.launch.plan import Plan
from borgcli.launch.specs import ChildSpecs, child_environment, child_specs
from borgcore.run.folder import RunFolder
from borgcore.run.record import RunRecord
from borgcore.settings.sections import RedisSettings
from borglogshipper.settings import LogshipperSettings
from borgmonitor.settings import MonitorSettings

REDIS = RedisSettings(url="unix:///tmp/a/valkey.sock", password=SecretStr("s3cret"))
USERS_OWN = {
    "BORG_EVENTS_URL": "kafka://elsewhere:9092",
    "BORG_EVENTS_USER": "kafka-user",
    "BORG_EVENTS_PASSWORD": "kafka-password",
    "BORG_LOGSHIPPER_EVENTS_PASSWORD": "kafka-password",
    "BORG_MONITOR_REDIS_PASSWORD": "other-password",
    "borg_logshipper_store__url": "https://elsewhere:9200",
    "BORG_LOGSHIPPER_STORE__API_KEY": "key",
    "BORG_LOGSHIPPER_CHECK_CONFIG": "true",
    "BORG_LOGSHIPPER_GROUP": "theirs",
    "BORG_LOGSHIPPER_MEMBER": "theirs",
    "BORG_HEALTH_ADDRESS": "127.0.0.1:9000",
}


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    monkeypatch.chdir(tmp_path)
    folder = RunFolder(Path("all runs #1? 50%") / "one")
    return Plan(folder, RunRecord(game="catch", preset="tiny", agents=3, seed=0))


@pytest.fixture
def children(plan: Plan) -> ChildSpecs:
    return child_specs(plan, REDIS)


def test_a_run_has_its_agents_a_monitor_and_a_logshipper_each_with_a_log_of_its_own(
    children: ChildSpecs, plan: Plan
) -> None:
    specs = [*children.agents, *children.monitors, *children.shippers]
    assert [spec.name for spec in specs] == [
        "agent process 1",
        "agent process 2",
        "agent process 3",
        "the monitor",
        "the logshipper",
    ]
    assert [spec.log.relative_to(plan.folder.path).name for spec in specs] == [
        "agent-1.log",
        "agent-2.log",
        "agent-3.log",
        "monitor.log",
        "logshipper.log",
    ]
    modules = [spec.command[:4] for spec in specs[2:]]
    assert modules == [
        [sys.executable, "-P", "-m", f"{package}.main"] for package in ("borgagent", "borgmonitor", "borglogshipper")
    ]
    assert not any("s3cret" in word for spec in specs for word in spec.command)


def test_all_of_them_speak_to_the_runs_redis_alone(children: ChildSpecs) -> None:
    for spec in (*children.agents, *children.monitors, *children.shippers):
        command = list(spec.command)
        for option in ("--redis-url", "--events-url"):
            assert command[command.index(option) + 1] == REDIS.url
        assert command[command.index("--run") + 1] == "one"
        assert command[command.index("--log-format") + 1] == "json"


def test_the_logshipper_ships_into_the_runs_folder_whatever_the_environment_says(
    children: ChildSpecs, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in USERS_OWN.items():
        monkeypatch.setenv(name, value)
    env = child_environment(REDIS)
    for name in USERS_OWN:
        monkeypatch.delenv(name)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    [spec] = children.shippers
    settings = LogshipperSettings.load(spec.command[4:])
    assert settings.store_url.startswith("sqlite:////")
    assert unquote(settings.store_url.removeprefix("sqlite:///")) == str(plan.folder.events.absolute())
    assert not set("?# ") & set(settings.store_url)
    assert settings.store.api_key is None
    assert (settings.group, settings.member) == ("borg-logshipper", "borg-up")
    assert (settings.events.url, settings.events.user, settings.health_address) == (REDIS.url, None, "")
    assert settings.redis.password == settings.events.password == REDIS.password
    assert not settings.check_config


def test_no_two_of_them_listen_on_the_address_of_a_file_that_all_read(
    children: ChildSpecs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "borg.toml"
    file.write_text('health_address = "127.0.0.1:9000"\n[agent]\nhealth_address = "127.0.0.1:9001"\n')
    monkeypatch.setenv("BORG_CONFIG", str(file))
    monkeypatch.setenv("BORG_MONITOR_HEALTH_ADDRESS", "127.0.0.1:9002")
    for name, value in child_environment(REDIS).items():
        monkeypatch.setenv(name, value)
    assert [AgentSettings.load(spec.command[4:]).health_address for spec in children.agents] == ["", "", ""]
    assert [MonitorSettings.load(spec.command[4:]).health_address for spec in children.monitors] == ["127.0.0.1:9002"]
    assert [LogshipperSettings.load(spec.command[4:]).health_address for spec in children.shippers] == [""]


def test_what_a_user_tunes_reaches_the_children(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("BORG_EVENTS_BUFFER", "5"), ("BORG_MONITOR_HEALTH_ADDRESS", "127.0.0.1:9001"), ("HOME", "/x")):
        monkeypatch.setenv(name, value)
        assert child_environment(REDIS)[name] == value


def test_a_server_without_password_is_met_without_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BORG_EVENTS_PASSWORD", "kafka-password")
    env = child_environment(RedisSettings())
    assert env["BORG_REDIS_PASSWORD"] == env["BORG_EVENTS_PASSWORD"] == ""


def test_the_authority_of_a_tls_server_is_that_of_its_event_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BORG_EVENTS_CA_FILE", "/kafka.pem")
    env = child_environment(RedisSettings(ca_file=Path("/ca.pem")))
    assert env["BORG_REDIS_CA_FILE"] == env["BORG_EVENTS_CA_FILE"] == "/ca.pem"
    assert "BORG_EVENTS_CA_FILE" not in child_environment(REDIS)
