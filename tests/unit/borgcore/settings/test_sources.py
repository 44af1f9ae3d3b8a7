import os
from pathlib import Path
from typing import ClassVar

import pytest
from pydantic import SecretStr

from borgcore.errors import SettingsError
from borgcore.settings.sections import Section
from borgcore.settings.service import ServiceSettings


class Lock(Section):
    code: SecretStr | None = None
    """Code of the lock."""


class CarSettings(ServiceSettings):
    """Drive."""

    service: ClassVar[str] = "car"

    doors: int = 2
    """Doors."""
    lock: Lock = Lock()
    """The lock."""


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.upper().startswith("BORG_"):
            monkeypatch.delenv(name)


def load(folder: Path, *arguments: str) -> CarSettings:
    return CarSettings.load(["--secrets-dir", str(folder), *arguments])


def test_shared_own_and_nested_settings_come_from_files_of_their_variables_names(tmp_path: Path) -> None:
    (tmp_path / "borg_redis_password").write_text("of-redis\n")
    (tmp_path / "borg_car_events_password").write_text("of-kafka")
    (tmp_path / "borg_events_password").write_text("of-another")
    (tmp_path / "borg_car_lock__code").write_text(" 4711 \r\n")
    settings = load(tmp_path)
    assert settings.model_dump()["redis_password"] == SecretStr("of-redis")
    assert settings.model_dump()["events_password"] == SecretStr("of-kafka")
    assert settings.lock.code == SecretStr(" 4711 ")
    assert "4711" not in repr(settings)


def test_the_folder_may_be_named_in_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "BORG_REDIS_PASSWORD").write_text("of-redis")
    monkeypatch.setenv("BORG_SECRETS_DIR", str(tmp_path))
    assert CarSettings.load([]).model_dump()["redis_password"] == SecretStr("of-redis")


def test_the_environment_wins_over_a_secret_file_and_that_over_the_toml_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "borg.toml").write_text('[car]\ndoors = 3\nredis_password = "toml"\n')
    (tmp_path / "borg_car_doors").write_text("4")
    (tmp_path / "borg_redis_password").write_text("file")
    config = ("--config", str(tmp_path / "borg.toml"))
    assert load(tmp_path, *config).doors == 4
    monkeypatch.setenv("BORG_CAR_DOORS", "5")
    monkeypatch.setenv("BORG_REDIS_PASSWORD", "environment")
    settings = load(tmp_path, *config)
    assert settings.doors == 5
    assert settings.model_dump()["redis_password"] == SecretStr("environment")


def test_files_that_are_no_settings_of_ours_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "ca.crt").write_bytes(b"\xff" * 100_000)
    (tmp_path / "..data").mkdir()
    (tmp_path / "borg_folder").mkdir()
    assert load(tmp_path) == load(tmp_path / "..data").model_copy(update={"secrets_dir": tmp_path})


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("borg_redis_pasword", b"hunter2", "borg_redis_pasword is no setting; the nearest name is BORG_REDIS_PASSWORD"),
        ("borg_car_lok__code", b"hunter2", "borg_car_lok__code is no setting; the nearest name is BORG_CAR_LOCK"),
        ("borg_redis_password", b"hunter2\xff", "cannot read secrets from {path}: it is no UTF-8 text"),
        ("borg_redis_password", b"hunter2" * 10_000, "{path} is over 65,536 bytes, too long for a secret"),
    ],
)
def test_a_mistake_is_one_line_that_names_the_file_and_not_the_secret(
    tmp_path: Path, name: str, content: bytes, text: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(SettingsError) as caught:
        load(tmp_path)
    assert str(caught.value) == f"{text.format(path=path)}; nothing was started"
    assert "hunter2" not in str(caught.value)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        load(tmp_path / "none")
    expected = f"cannot read secrets from {tmp_path / 'none'}: No such file or directory; nothing was started"
    assert str(caught.value) == expected
