"""Read and show the run's progress; end the session when the target return or the time limit is reached."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from time import time

import anyio
from redis.asyncio import Redis
from redis.exceptions import RedisError

from borgcli.exit_codes import EXIT_TOO_EARLY
from borgcli.launch.plan import Plan
from borgcli.launch.session import Session
from borgcli.screen.duration import format_duration
from borgcli.screen.progress import JUDGED_EPISODES, RunProgress, warmup_size
from borgcore.connection.client import open_redis
from borgcore.errors import BorgError
from borgcore.run.reports import AgentReport, read_reports
from borgcore.run.stats import ReplayStats, read_stats
from borgcore.settings.sections import RedisSettings

PERIOD_S = 0.5  # between two readings


@dataclass
class RunWatcher:
    """Watches the progress of one session."""

    session: Session
    plan: Plan
    began_s: float = field(default_factory=time)
    reports: Sequence[AgentReport] = ()
    stats: ReplayStats | None = None

    async def watch(self, settings: RedisSettings) -> None:
        """Show progress until cancelled, whether or not Redis answers."""
        while True:
            try:
                async with open_redis(settings) as redis:
                    await self._follow(redis)
            except (BorgError, RedisError, OSError):  # the agents, or the watcher of the server, report what that means
                self._show(answering=False)
            await anyio.sleep(PERIOD_S)

    async def keep_time(self) -> None:
        """End the session when its time is over."""
        if self.plan.for_s is None:
            return
        await anyio.sleep(self.plan.for_s)
        span, wanted = format_duration(self.plan.for_s), self.plan.until_return
        if wanted is None:
            self.session.end(f"its time of {span} is over")
            return
        reached = self._progress().pooled_return
        found = "too few episodes have ended" if reached is None else f"it is {reached:.2f}"
        self.session.end(
            f"its time of {span} is over before the mean return reached {wanted:g}: {found}", EXIT_TOO_EARLY
        )

    async def _follow(self, redis: Redis) -> None:
        while True:
            found = await read_reports(redis, self.plan.folder.run)
            self.reports = [report for report in found if report.at_s >= self.began_s]  # not of an earlier session
            self.stats = await read_stats(redis, self.plan.folder.run)
            self.session.played = self.session.played or bool(self.reports)
            self._show(answering=True)
            self._judge()
            await anyio.sleep(PERIOD_S)

    def _judge(self) -> None:
        reached, wanted = self._progress().pooled_return, self.plan.until_return
        if reached is not None and wanted is not None and reached >= wanted:
            self.session.end(
                f"the mean return over the newest {JUDGED_EPISODES} episodes is {reached:.2f}, {wanted:g} was asked for"
            )

    def _show(self, *, answering: bool) -> None:
        self.session.display.show(self._progress(answering=answering))

    def _progress(self, *, answering: bool = True) -> RunProgress:
        record = self.plan.record
        return RunProgress(
            run=self.plan.folder.run,
            game=record.game,
            agents=record.agents,
            now_s=time(),
            elapsed_s=time() - self.began_s,
            for_s=self.plan.for_s,
            warmup=warmup_size(record.preset),
            reports=self.reports,
            stats=self.stats,
            answering=answering,
        )
