"""borg-monitor as users start it."""

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import anyio
import orjson
import pytest
from anyio import to_thread
from redis.asyncio import Redis

from borgcore.connection.client import open_redis
from borgcore.run.keys import RunKeys
from borgcore.settings.sections import RedisSettings
from borgmonitor.settings import MonitorSettings
from tests.limits import HANG_S

from .conftest import Breakable, fill
from .watch import LOOK_S

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start_monitor(tmp_path: Path) -> Iterator[Start]:
    """Starts the real program with JSON logs."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str, **env: str) -> subprocess.Popen[str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("BORG_")}
        process = subprocess.Popen(
            [sys.executable, "-m", "borgmonitor.main", "--log-format", "json", "--grace-s", str(HANG_S), *arguments],
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**inherited, **env},
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
            process.communicate()


@pytest.fixture
async def redis(redis_settings: RedisSettings) -> AsyncIterator[Redis]:
    async with open_redis(redis_settings) as redis:
        yield redis


async def output_of(process: subprocess.Popen[str]) -> str:
    output, _ = await to_thread.run_sync(process.communicate)
    return output


async def published(redis: Redis, run: str, count: int) -> list[dict[str, Any]]:
    """Wait for so many samples in the stream."""
    while True:
        entries: Any = await redis.xrange(RunKeys(run).events("memory_monitoring"))
        documents = [orjson.loads(value) for _, fields in entries for value in fields.values()]
        samples = [document for document in documents if document["event"] == "memory_sampled"]
        if len(samples) >= count:
            return samples
        await anyio.sleep(LOOK_S)


async def test_samples_arrive_in_the_stream_and_a_stop_drains(
    start_monitor: Start, redis_settings: RedisSettings, redis: Redis, run: str
) -> None:
    with anyio.fail_after(HANG_S):
        await fill(redis, run)
        process = start_monitor("--redis-url", redis_settings.url, "--run", run, "--poll-period-s", "0.1")
        samples = await published(redis, run, 5)
        process.send_signal(signal.SIGTERM)
        output = await output_of(process)
    assert process.returncode == 0, output
    assert [orjson.loads(line)["event"] for line in output.splitlines()] == [
        "server_found",
        "stop_requested",
        "service_ended",
    ]
    assert samples[0]["run"] == run
    assert samples[0]["node"] == redis_settings.address
    assert samples[0]["replay_transitions"] == 50
    assert "replay_inserts_per_s" in samples[1]
    assert len({sample["event_id"] for sample in samples}) == len(samples)


async def test_health_and_metrics_show_the_newest_poll(
    start_monitor: Start, server: Breakable, run: str, unused_port: int
) -> None:
    url = f"http://127.0.0.1:{unused_port}"
    await server.stop()
    with anyio.fail_after(HANG_S):
        process = start_monitor(
            "--redis-url", server.url, "--run", run, "--health-address", f"127.0.0.1:{unused_port}",
            "--poll-period-s", "0.1",
        )  # fmt: skip
        async with aiohttp.ClientSession() as session:
            assert await until_status(session, f"{url}/readyz", 503) == "service: not ready\n"
            async with session.get(f"{url}/healthz") as answer:
                assert answer.status == 200
            await server.start()
            assert await until_status(session, f"{url}/readyz", 200) == "ok\n"
            async with session.get(f"{url}/metrics") as answer:
                lines = (await answer.text()).splitlines()
        process.send_signal(signal.SIGTERM)
        await output_of(process)
    assert process.returncode == 0
    labels = f'{{node="{server.address}",run="{run}"}}'
    assert any(line.startswith(f"redis_memory_used_bytes{labels} ") for line in lines)
    assert f'borg_memory_warning{{kind="server_lost",node="{server.address}",run="{run}"}} 0.0' in lines
    assert any(line.startswith("borg_events_published_total ") for line in lines)
    assert any(line.startswith("borg_events_pending ") for line in lines)


async def until_status(session: aiohttp.ClientSession, url: str, status: int) -> str:
    while True:
        try:
            async with session.get(url) as answer:
                if answer.status == status:
                    return await answer.text()
        except aiohttp.ClientConnectionError:
            pass
        await anyio.sleep(LOOK_S)


async def test_a_stop_ends_it_also_while_its_server_hangs(
    start_monitor: Start, server: Breakable, run: str, valkey_url: str
) -> None:
    with anyio.fail_after(HANG_S):
        async with open_redis(RedisSettings(url=valkey_url)) as log:
            process = start_monitor(
                "--redis-url", server.url, "--run", run, "--events-url", valkey_url, "--poll-period-s", "0.1",
                "--redis-timeout-s", str(10 * HANG_S),
            )  # fmt: skip
            await published(log, run, 2)
            server.signal(signal.SIGSTOP)
            try:
                process.send_signal(signal.SIGTERM)
                output = await output_of(process)
            finally:
                server.signal(signal.SIGCONT)
    assert process.returncode == 0, output


@pytest.mark.parametrize(
    ("arguments", "code", "line"),
    [
        (
            ["--poll-period-s", "0"],
            2,
            "borg-monitor: poll_period_s: found '0'; input should be greater than 0; nothing was started",
        ),
        (
            ["--redis-url", "http://h", "--events-url", "redis://127.0.0.1:1"],
            2,
            (
                "borg-monitor: redis url: scheme 'http', expected redis://host:port, rediss://host:port or "
                "unix:///path; nothing was started"
            ),
        ),
    ],
)
async def test_a_wrong_setting_ends_it_with_one_line(
    start_monitor: Start, arguments: list[str], code: int, line: str
) -> None:
    with anyio.fail_after(HANG_S):
        process = start_monitor(*arguments)
        assert (await output_of(process)).splitlines() == [line]
    assert process.returncode == code


async def test_a_wrong_password_ends_it_with_one_line(start_monitor: Start, server: Breakable, run: str) -> None:
    with anyio.fail_after(HANG_S):
        async with open_redis(RedisSettings(url=server.url)) as redis:
            await redis.config_set("requirepass", "right")
        process = start_monitor("--redis-url", server.url, "--run", run, BORG_REDIS_PASSWORD="wrong-one")
        output = await output_of(process)
    assert output.splitlines() == [
        f"borg-monitor: Redis at {server.address} refused the password; set BORG_REDIS_PASSWORD"
    ]
    assert process.returncode == 3


async def test_help_lists_every_setting(start_monitor: Start) -> None:
    with anyio.fail_after(HANG_S):
        process = start_monitor("--help")
        output = await output_of(process)
    assert process.returncode == 0
    assert [name for name in MonitorSettings.model_fields if f"--{name.replace('_', '-')}" not in output] == []
    assert "one round trip to each server" in " ".join(output.split())


async def test_it_runs_without_torch(tmp_path: Path) -> None:
    program = "import sys; sys.modules['torch'] = None; import borgmonitor.main"
    with anyio.fail_after(HANG_S):
        done = await anyio.run_process([sys.executable, "-c", program], cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
