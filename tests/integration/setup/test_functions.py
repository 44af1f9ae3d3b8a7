"""The full stack's Redis, as the steps keys and functions prepare it."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import pytest
from anyio import to_thread
from pydantic import SecretStr
from redis.exceptions import NoPermissionError

from borgcore.connection.client import open_redis
from borgcore.errors import ServerError, SettingsError
from borgcore.replay import ReplaySettings, ReplaySpec, Transition, open_replay
from borgcore.settings.sections import RedisSettings
from borgsetup.functions import prepare_redis
from borgsetup.keys import REDIS_PASSWORDS, SETUP, make_keys
from borgsetup.settings import SetupSettings
from tests.limits import HANG_S

SPEC = ReplaySpec("pong", stack=4, height=8, width=8, n=3, actions=6, gamma=0.99)
REPLAY = ReplaySettings(capacity=1_000, min_size=10, samples_per_insert=0.0)
ONE = Transition(np.zeros((7, 8, 8), np.uint8), 0, 1.0, 0.5, 3, 1.0)


@pytest.fixture
def server(start_redis: Callable[..., Any], tmp_path: Path) -> Any:
    """A Redis with the file of users that the step keys makes for the run ``first``."""
    make_keys(tmp_path, "first")
    return start_redis(include=str(tmp_path / "redis/redis.conf"))


def as_user(server: Any, folder: Path, user: str) -> RedisSettings:
    password = (folder / SETUP / REDIS_PASSWORDS[user]).read_text()
    return RedisSettings(url=server.connection_url, user=user, password=SecretStr(password))


def settings_of(server: Any, folder: Path, run: str) -> SetupSettings:
    setup = as_user(server, folder, "setup")
    shared = {"redis_url": setup.url, "redis_user": "setup", "redis_password": setup.password}
    return SetupSettings.model_validate({"step": "functions", "keys_dir": folder, "run": run} | shared)


async def plays(server: Any, folder: Path, run: str) -> None:
    settings = await to_thread.run_sync(as_user, server, folder, "agent")
    async with open_redis(settings) as redis, open_replay(redis, run, SPEC, REPLAY) as replay:
        await replay.push([ONE] * 10)


async def test_agents_play_the_run_of_the_last_start_and_no_other(server: Any, tmp_path: Path) -> None:
    with anyio.fail_after(HANG_S):
        with pytest.raises(ServerError, match="functions are missing"):
            await plays(server, tmp_path, "first")
        for _ in range(2):
            await prepare_redis(settings_of(server, tmp_path, "first"))
            await plays(server, tmp_path, "first")
        await prepare_redis(settings_of(server, tmp_path, "second"))  # the stack was started again with another run
        await plays(server, tmp_path, "second")
        with pytest.raises(ServerError, match="denies this user a permission"):
            await plays(server, tmp_path, "first")


def test_the_default_user_may_only_ping(server: Any, tmp_path: Path) -> None:
    password = (tmp_path / SETUP / REDIS_PASSWORDS["default"]).read_text()
    command, env = ["redis-cli", "-p", str(server.port)], {**os.environ, "REDISCLI_AUTH": password}

    def ask(*words: str) -> str:
        line = [*command, *words]
        return subprocess.run(line, env=env, capture_output=True, text=True, timeout=HANG_S, check=False).stdout

    assert ask("ping").strip() == "PONG"
    for words in (("info",), ("flushall",), ("get", "a"), ("config", "get", "dir")):
        assert "NOPERM" in ask(*words)


async def test_a_monitor_may_not_change_what_it_watches(server: Any, tmp_path: Path) -> None:
    with anyio.fail_after(HANG_S):
        async with open_redis(as_user(server, tmp_path, "monitor")) as redis:
            assert await redis.hmget("borg:{first:r0}:meta", ["spec"]) == [None]
            with pytest.raises(NoPermissionError):
                await redis.hset("borg:{first:r0}:meta", "spec", "x")


async def test_a_missing_password_is_one_line_that_names_the_step_before(server: Any, tmp_path: Path) -> None:
    settings = settings_of(server, tmp_path, "first")
    (tmp_path / SETUP / REDIS_PASSWORDS["agent"]).unlink()
    with pytest.raises(SettingsError, match=r"keys_dir: cannot read .*/redis_agent_password: .*run the step keys"):
        await prepare_redis(settings)


def test_the_step_runs_as_a_program_and_says_no_password(server: Any, tmp_path: Path) -> None:
    env = {name: value for name, value in os.environ.items() if not name.startswith("BORG_")}
    env |= {"BORG_SECRETS_DIR": str(tmp_path / SETUP), "BORG_REDIS_URL": server.connection_url}
    env |= {"BORG_RUN": "first", "BORG_REDIS_USER": "setup"}
    command = [sys.executable, "-m", "borgsetup.main", "functions", "--keys-dir", str(tmp_path)]
    ended = subprocess.run(command, env=env, capture_output=True, text=True, timeout=HANG_S, check=False)
    said = ended.stdout + ended.stderr
    assert ended.returncode == 0, said
    assert "functions_prepared" in said
    assert not any(path.read_text() in said for path in (tmp_path / SETUP).glob("*password"))
