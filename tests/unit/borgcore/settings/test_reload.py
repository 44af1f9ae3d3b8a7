"""Settings whose files change after they were loaded."""

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import pytest
from anyio import to_thread
from pydantic import SecretStr

from borgcore.settings.sections import Section
from borgcore.settings.service import ServiceSettings


class KeptSettings(Section):
    login: ClassVar[frozenset[str]] = frozenset({"key"})

    key: SecretStr | None = None
    size: int = 1


class SafeSettings(ServiceSettings):
    service: ClassVar[str] = "safe"

    kept: KeptSettings = KeptSettings()


async def _load(*arguments: str) -> SafeSettings:
    return await to_thread.run_sync(SafeSettings.load, arguments)


def _shown(settings: SafeSettings) -> Sequence[str | None]:
    secrets = (settings.redis.newest.password, settings.events.newest.password, settings.kept.newest.key)
    return [None if secret is None else secret.get_secret_value() for secret in secrets]


async def test_logins_alone_are_replaced_once_they_are_read_again(tmp_path: Path) -> None:
    config, secrets = tmp_path / "borg.toml", tmp_path / "secrets"
    secrets.mkdir()
    config.write_text('redis_password = "r1"\n[safe.kept]\nsize = 2\nkey = "k1"\n')
    (secrets / "borg_events_password").write_text("e1")
    (secrets / "borg_events_url").write_text("kafka://a:1")
    settings = await _load("--config", str(config), "--secrets-dir", str(secrets))
    config.write_text('redis_password = "r2"\n[safe.kept]\nsize = 3\nkey = "k2"\n')
    (secrets / "borg_events_password").write_text("e2")
    (secrets / "borg_events_url").write_text("kafka://b:1")
    assert _shown(settings) == ["r1", "e1", "k1"]
    kept = await settings.kept.read_again()
    assert (kept.key, kept.size) == (SecretStr("k2"), 2)
    assert _shown(settings) == ["r2", "e2", "k2"]
    assert settings.events.newest.url == "kafka://a:1"
    assert (await settings.read_again()).kept.size == 3


async def test_the_login_in_use_wins_as_it_did_at_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BORG_REDIS_PASSWORD", "environment")
    (tmp_path / "borg_redis_password").write_text("one")
    settings = await _load("--secrets-dir", str(tmp_path))
    (tmp_path / "borg_redis_password").write_text("two")
    found = await settings.redis.read_again()
    assert found.password == SecretStr("environment")


async def test_wrong_files_change_nothing_and_are_named(tmp_path: Path) -> None:
    (tmp_path / "borg_redis_password").write_text("one")
    settings = await _load("--secrets-dir", str(tmp_path))
    assert settings.redis.read_again_note == "; its files are read again at each try"
    (tmp_path / "borg_redis_pasword").write_text("two")
    for _ in range(2):
        await settings.redis.read_again()
        assert _shown(settings)[0] == "one"
        assert settings.redis.read_again_note == (
            "; its files could not be read again: borg_redis_pasword is no setting; the nearest name is "
            "BORG_REDIS_PASSWORD"
        )
    (tmp_path / "borg_redis_pasword").unlink()
    (tmp_path / "borg_redis_password").write_text("two")
    await settings.redis.read_again()
    assert _shown(settings)[0] == "two"
    assert settings.redis.read_again_note == "; its files are read again at each try"


async def test_settings_without_files_stay_as_they_are() -> None:
    settings = await _load("--redis-password", "one")
    assert await settings.redis.read_again() == settings.redis
    assert settings.redis.source is None
    assert settings.redis.read_again_note == ""
    assert await settings.read_again() is settings
