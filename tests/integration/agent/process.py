"""Real agent processes, and bounded waiting for what they do."""

import signal
import subprocess
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import anyio
from anyio import to_thread
from redis.asyncio import Redis

from borgcore.run.reports import AgentReport, read_reports
from tests.limits import HANG_S, STARTS_S

RUN = "t"
LOOK_S = 0.05
LEASE_S = 15.0  # on a busy machine a living agent may be silent for seconds
GRACE_S = HANG_S  # and its drain may take longer than the usual grace

T = TypeVar("T")


@dataclass
class AgentProcess:
    """An agent process and its log."""

    process: subprocess.Popen[bytes]
    log: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    def kill(self) -> None:
        self.process.kill()

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    async def ended(self) -> int:
        """Wait for its end and return its exit code."""
        return await within(lambda: to_thread.run_sync(self.process.poll))

    async def last_line(self, code: int) -> str:
        """Wait for an end with that exit code and return its last line, the only one that is not a log event."""
        assert await self.ended() == code
        *events, last = (await self.output()).splitlines()
        assert [line for line in events if not line.startswith("{")] == []
        return last

    async def output(self) -> str:
        return await to_thread.run_sync(self.log.read_text)

    async def says(self, event: str) -> None:
        async def look() -> bool:
            return f'"event":"{event}"' in await self.output()

        await within(look)


StartAgent = Callable[..., AgentProcess]


async def within(look: Callable[[], Awaitable[T | None]], limit_s: float = STARTS_S) -> T:
    """Call ``look`` until it returns something, and return that; fail after ``limit_s``."""
    with anyio.fail_after(limit_s):
        while True:
            found = await look()
            if found is not None and found is not False:
                return found
            await anyio.sleep(LOOK_S)


async def reports_of(redis: Redis) -> dict[int, AgentReport]:
    return {report.agent: report for report in await read_reports(redis, RUN)}


async def report_where(
    redis: Redis, number: int, holds: Callable[[AgentReport], bool], limit_s: float = STARTS_S
) -> AgentReport:
    """Wait for a report of agent ``number`` for which ``holds`` is true."""

    async def look() -> AgentReport | None:
        report = (await reports_of(redis)).get(number)
        return report if report is not None and holds(report) else None

    return await within(look, limit_s)
