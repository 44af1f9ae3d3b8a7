"""A ``borg up`` process, and what a test sees of it from outside."""

import os
import re
import signal
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import anyio
from anyio import to_thread
from redis.asyncio import Redis
from redis.exceptions import RedisError

from borgcore.run.folder import RunFolder
from tests.limits import STARTS_S

LOOK_S = 0.02

T = TypeVar("T")


@dataclass
class Borg:
    """A ``borg up`` that was started, and its folder."""

    process: subprocess.Popen[str]
    runs: Path
    run: str
    began_s: float

    @property
    def folder(self) -> RunFolder:
        return RunFolder(self.runs / self.run)

    def output(self) -> str:
        return (self.runs.parent / f"output-{self.process.pid}").read_text()

    async def ended(self) -> int:
        await wait_for(lambda: self.process.poll() is not None)
        return self.process.returncode

    async def writes(self, pattern: str) -> None:
        await wait_for(lambda: re.search(pattern, self.output()) is not None)

    async def children(self, count: int) -> dict[int, str]:
        """Wait for this many children, each running its own program by then, and return their command lines."""

        def look() -> dict[int, str]:
            found = children_of(self.process.pid)
            return {pid: line for pid, line in found.items() if line and "borgcli.launch.parent_death" not in line}

        await wait_for(lambda: len(look()) == count)
        return await to_thread.run_sync(look)

    async def serving(self) -> None:
        """Wait until the Valkey of this start, not of an earlier one, has its socket."""
        await wait_for(lambda: "unixsocket" in self.config() and Path(self.option("unixsocket")).exists())

    async def ready(self, agents: int) -> None:
        """Wait until ``agents`` agents have become ready, counting each restart."""
        await self.serving()
        await self.wait_count("agents-ready", agents)

    async def wait_count(self, key: str, least: int) -> None:
        async with self.redis() as redis:
            await wait_counted(redis, key, least)

    @asynccontextmanager
    async def redis(self) -> AsyncIterator[Redis]:
        socket, password = await to_thread.run_sync(lambda: (self.option("unixsocket"), self.option("requirepass")))
        redis = Redis(unix_socket_path=socket, password=password)
        try:
            yield redis
        finally:
            await redis.aclose()

    def config(self) -> str:
        path = self.folder.valkey / "valkey.conf"
        try:
            return path.read_text() if path.stat().st_mtime >= self.began_s else ""
        except FileNotFoundError:
            return ""

    def option(self, name: str) -> str:
        found = re.search(f'^{name} "(.*)"$', self.config(), re.MULTILINE)
        assert found is not None
        return found[1]

    def valkey_log(self) -> str:
        return (self.folder.valkey / "valkey.log").read_text()

    def interrupt(self, number: signal.Signals = signal.SIGINT) -> None:
        os.kill(self.process.pid, number)


Start = Callable[..., Borg]


def children_of(parent: int) -> dict[int, str]:
    """Return the command lines of a process's living children, by process id."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, above = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
            if int(above) == parent and state != "Z":
                found[int(folder.name)] = (folder / "cmdline").read_text().replace("\0", " ").strip()
        except (OSError, ValueError):  # it has ended
            continue
    return found


def alive(pid: int) -> bool:
    """Return whether a process is running; an ended orphan may remain as a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def wait_counted(redis: Redis, key: str, least: int) -> None:
    async def count() -> int:
        try:
            return int(await redis.get(key) or 0)
        except (RedisError, OSError):  # not serving yet
            return 0

    with anyio.fail_after(STARTS_S):
        while await count() < least:  # noqa: ASYNC110  # another process counts
            await anyio.sleep(LOOK_S)


async def wait_for(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(STARTS_S):
        while not await to_thread.run_sync(condition):  # noqa: ASYNC110  # another process makes it true
            await anyio.sleep(LOOK_S)


async def wait_gone(pids: dict[int, str]) -> None:
    await wait_for(lambda: not any(map(alive, pids)))


async def begin(start: Start, agent: str | None, *arguments: str, **options: object) -> Borg:
    return await to_thread.run_sync(lambda: start(agent, *arguments, **options))


async def read(reader: Callable[[], T]) -> T:
    return await to_thread.run_sync(reader)
