import os
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import pytest
from pydantic import Field, PositiveInt, ValidationError

from borgcore.errors import SettingsError
from borgcore.settings.sections import RedisSettings, Section
from borgcore.settings.service import ServiceSettings

PASSWORD = "hunter2"


class Engine(Section):
    cylinders: PositiveInt = 4
    """Cylinders."""
    power_w: float = 1.0
    """Greatest power, watts."""


class CarSettings(ServiceSettings):
    """Drive."""

    service: ClassVar[str] = "car"

    doors: PositiveInt = 2
    """Doors."""
    engine: Engine = Engine()
    """The engine."""
    spares: dict[int, Engine] = Field(default_factory=dict)
    """Engines in the boot."""


Toml = Callable[[str | bytes], str]


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.upper().startswith("BORG_"):
            monkeypatch.delenv(name)


@pytest.fixture
def toml(tmp_path: Path) -> Toml:
    def write(text: str | bytes) -> str:
        path = tmp_path / "borg.toml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return str(path)

    return write


def refusal(*arguments: str) -> str:
    with pytest.raises(SettingsError) as caught:
        CarSettings.load(arguments)
    text = str(caught.value)
    assert "\n" not in text
    assert caught.value.exit_code == 2
    return text


def test_command_line_wins_over_environment_over_file_over_default(toml: Toml, monkeypatch: pytest.MonkeyPatch) -> None:
    path = toml("[car]\ndoors = 3\n[car.engine]\ncylinders = 3\npower_w = 3.0\n")
    assert CarSettings.load([]).doors == 2
    assert CarSettings.load(["--config", path]).doors == 3
    monkeypatch.setenv("BORG_CAR_DOORS", "5")
    monkeypatch.setenv("BORG_CAR_ENGINE__CYLINDERS", "5")
    assert CarSettings.load(["--config", path]).doors == 5
    settings = CarSettings.load(["--config", path, "--doors", "6"])
    assert settings.doors == 6
    assert (settings.engine.cylinders, settings.engine.power_w) == (5, 3.0)  # a section is merged, not replaced


def test_a_services_own_name_in_the_environment_wins_over_the_shared_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BORG_RUN", "shared")
    assert CarSettings.load([]).run == "shared"
    monkeypatch.setenv("BORG_CAR_RUN", "own")
    assert CarSettings.load([]).run == "own"


def test_the_file_may_be_named_in_the_environment(toml: Toml, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BORG_CONFIG", toml('run = "filed"\n[car]\ndoors = 4\n'))
    settings = CarSettings.load([])
    assert (settings.run, settings.doors) == ("filed", 4)


def test_tables_of_other_services_are_left_alone(toml: Toml) -> None:
    assert CarSettings.load(["--config", toml("[monitor]\npoll = 1\n[dashboard.colours]\nred = 1\n")]).doors == 2


def test_a_section_may_stand_at_the_top_of_the_file_for_all_services(toml: Toml) -> None:
    settings = CarSettings.load(["--config", toml("[engine]\ncylinders = 6\n[spares.1]\ncylinders = 8\n")])
    assert (settings.engine.cylinders, settings.spares[1].cylinders) == (6, 8)


def test_settings_are_frozen() -> None:
    settings = CarSettings.load([])
    with pytest.raises(ValidationError):
        settings.doors = 4  # type: ignore[misc]  # the promise itself
    with pytest.raises(ValidationError):
        settings.engine.cylinders = 4  # type: ignore[misc]  # the same


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("BORG_CAR_DORS", "3", "BORG_CAR_DORS is no setting; the nearest name is BORG_CAR_DOORS"),
        ("borg_car_dors", "3", "borg_car_dors is no setting; the nearest name is BORG_CAR_DOORS"),
        ("BORG_CAR_DOORS__LEFT", "3", "BORG_CAR_DOORS__LEFT is no setting; the nearest name is BORG_CAR_DOORS"),
        ("BORG_CAR_ENGINE__CYLINDRES", "3", "engine.cylindres is no setting; the nearest name is cylinders"),
        ("BORG_CAR_SPARES__1__POWER", "3", "spares.1.power is no setting; the nearest name is power_w"),
        ("BORG_RUNN", "x", "BORG_RUNN is no setting; the nearest name is BORG_RUN"),
        (
            "BORG_REDIS_PASWORD",
            PASSWORD,
            "BORG_REDIS_PASWORD is no setting; the nearest name is BORG_REDIS_PASSWORD",
        ),
        (
            "BORG_CAR_DOORS",
            "two",
            "doors: found 'two'; input should be a valid integer, unable to parse string as an integer",
        ),
        ("BORG_CAR_ENGINE__CYLINDERS", "0", "engine.cylinders: found '0'; input should be greater than 0"),
        (
            "BORG_RUN",
            "../other",
            "run: found '../other'; string should match pattern '^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$'",
        ),
        ("BORG_CAR_ENGINE", "{bad", 'error parsing value for field "engine" from source "Variables"'),
    ],
)
def test_a_mistake_in_the_environment_is_one_line_that_names_it(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, text: str
) -> None:
    monkeypatch.setenv(name, value)
    assert refusal() == f"{text}; nothing was started"


@pytest.mark.parametrize(
    "name",
    ["BORG_MONITOR_POLL_S", "BORG_MONITOR_HEALTH_ADDRESS", "borg_bus_redis_timeout_s", "TEST_BORG_SLOW", "BORGES"],
)
def test_names_of_others_in_the_environment_are_left_alone(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "anything")
    assert CarSettings.load([]).doors == 2


@pytest.mark.parametrize(
    ("document", "text"),
    [
        ("runn = 'x'", "{path}: runn is no shared setting; the nearest name is run"),
        ("doors = 3", "{path}: doors is no shared setting; it belongs in the table car"),
        ("car = 3", "{path}: car is no shared setting; the nearest name is run"),
        ("[engin]\ncylinders = 3", "{path}: no table is named engin; the nearest name is engine"),
        ("[car]\ndors = 3", "dors is no setting; the nearest name is doors"),
        ("[car.engine]\ncylindres = 3", "engine.cylindres is no setting; the nearest name is cylinders"),
        ("[engine]\ncylindres = 3", "engine.cylindres is no setting; the nearest name is cylinders"),
        (
            "[car]\nengine = 3",
            "engine: found 3; input should be a valid dictionary or instance of Engine",
        ),
        (
            "[spares.one]\ncylinders = 3",
            "spares.one.[key]: found 'one'; input should be a valid integer, unable to parse string as an integer",
        ),
        ("run = ", "{path} is not TOML: Invalid value (at end of document)"),
        ("run = " + "[" * 5000, "{path} is nested too deeply for settings"),
        (b"\xff", "{path} is not TOML: 'utf-8' codec can't decode byte 0xff in position 0: invalid start byte"),
        (b"#" * (1 << 20) + b"\n", "{path} is over 1,048,576 bytes, too long for settings"),
    ],
)
def test_a_mistake_in_the_file_is_one_line_that_names_it(toml: Toml, document: str | bytes, text: str) -> None:
    path = toml(document)
    assert refusal("--config", path) == f"{text.format(path=path)}; nothing was started"


@pytest.mark.parametrize(("name", "reason"), [("absent.toml", "No such file or directory"), (".", "Is a directory")])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str, reason: str) -> None:
    path = tmp_path / name
    assert refusal("--config", str(path)) == f"cannot read settings from {path}: {reason}; nothing was started"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--dors", "3"), "--dors is no option; the nearest is --doors"),
        (("--engine.cylindres=3",), "--engine.cylindres is no option; the nearest is --engine.cylinders"),
        (("--redis-pasword", PASSWORD), "--redis-pasword is no option; the nearest is --redis-password"),
        ((f"--redis-pasword={PASSWORD}",), "--redis-pasword is no option; the nearest is --redis-password"),
        (("--doors",), "argument --doors: expected one argument"),
        (
            ("--doors", "x"),
            "doors: found 'x'; input should be a valid integer, unable to parse string as an integer",
        ),
        (("--engine.cylinders", "0"), "engine.cylinders: found '0'; input should be greater than 0"),
        (("--redis-timeout-s", "0"), "redis_timeout_s: found '0'; input should be greater than 0"),
        (
            ("--log-level", "loud"),
            "log_level: found 'loud'; input should be 'debug', 'info', 'warning' or 'error'",
        ),
    ],
)
def test_a_mistake_on_the_command_line_is_one_line_that_names_it(arguments: tuple[str, ...], text: str) -> None:
    assert refusal(*arguments) == f"{text}; nothing was started"


def test_a_wrong_value_is_repeated_only_in_part() -> None:
    assert len(refusal("--doors", "9" * 100_000 + "x")) < 300


@pytest.mark.parametrize(
    "document",
    [
        f"redis_password = ['{PASSWORD}']",
        f"[redis_password]\n{PASSWORD} = 1",
        f"redis_url = ['redis://:{PASSWORD}@host']",
        f"redis_password = '{PASSWORD}'\n[car]\ndoors = 0",
        f"redis_password = '{PASSWORD}'\nredis_password = '{PASSWORD}'",
    ],
)
def test_no_error_shows_a_secret(toml: Toml, document: str) -> None:
    assert PASSWORD not in refusal("--config", toml(document))


def test_no_repr_shows_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BORG_REDIS_PASSWORD", PASSWORD)
    settings = CarSettings.load(["--redis-url", f"redis://user:{PASSWORD}@host"])
    assert settings.redis.password is not None
    assert settings.redis.password.get_secret_value() == PASSWORD
    assert PASSWORD not in repr(settings) + str(settings) + repr(settings.redis) + str(settings.redis)


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://user:s3cret@host:1234/2", "host:1234"),
        ("redis://host", "host:6379"),
        ("unix://:s3cret@/run/socket", "/run/socket"),
        ("redis://host?password=s3cret", "the given URL"),
        ("redis://:s3cret#x@host", "the given URL"),
        ("redis://:1234#s3cret@host", "the given URL"),
        ("redis://user:s3/cret@host", "the given URL"),
        ("redis://user:1/s3cret@host", "the given URL"),
        ("redis://[s3cret]@host", "the given URL"),
        ("redis://host:s3cret", "the given URL"),
        ("unix://:s3/cret@/tmp/socket", "the given URL"),
        ("unix://s3cret/tmp/socket", "the given URL"),
        ("redis:s3cret", "the given URL"),
    ],
)
def test_a_servers_address_shows_no_piece_of_a_secret(url: str, address: str) -> None:
    assert RedisSettings(url=url).address == address


def test_help_ends_with_0_and_says_units(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        CarSettings.load(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert caught.value.code == 0
    assert text.startswith("usage: borg-car")
    assert "Greatest power, watts. (default: 1.0)" in text
    assert "Longest wait for one reply, seconds." in text
