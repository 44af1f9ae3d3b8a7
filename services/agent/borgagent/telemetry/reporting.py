"""The agent's report, once a second: published as events and written to Redis."""

import os
import time
from collections import deque
from dataclasses import replace

import anyio
from redis.asyncio import Redis

from borgagent.stages.learning import LearningProgress
from borgagent.telemetry.events import publish_report
from borgagent.telemetry.state import AgentState
from borgcore.eventlog.publisher import Publisher
from borgcore.events.training import LearnerReported
from borgcore.run.reports import AgentReport, write_report
from borgcore.service.health import Health
from borgcore.service.ticker import Ticker

REPORT_PERIOD_S = 1.0
SILENT_S = 3.0  # an agent is not ready once Redis has taken no report for this long


class Reporter:
    """Publishes and writes reports; rates and shares are over the time since the previous one."""

    def __init__(self, redis: Redis, publisher: Publisher, state: AgentState) -> None:
        self._redis = redis
        self._publisher = publisher
        self._state = state
        self._measured = anyio.Event()
        self._unwritten: deque[AgentReport] = deque(maxlen=1)
        self._at_s = self._taken_at_s = time.monotonic()
        self._acted = replace(state.acting)
        self._paused_s = 0.0
        self._learned: LearningProgress | None = None

    async def publish(self) -> None:
        """Publish a report each period until cancelled, even during an outage of Redis: the log may be elsewhere."""
        ticker = Ticker(REPORT_PERIOD_S)
        while True:
            await ticker.wait()
            report = self.measure()
            publish_report(self._publisher, report)
            self._unwritten.append(report)
            self._measured.set()

    async def write(self) -> None:
        """Write each new report to Redis until cancelled; while Redis is slow, only the newest."""
        while True:
            await self._measured.wait()
            self._measured = anyio.Event()
            await write_report(self._redis, self._state.settings.run, self._unwritten.pop())
            self._taken_at_s = time.monotonic()

    async def keep_ready(self, health: Health) -> None:
        """Until cancelled, keep ``health`` ready while the agent works and Redis takes its reports."""
        try:
            while True:
                silent_s = time.monotonic() - self._taken_at_s
                health.ready = self._state.at_work and silent_s < SILENT_S
                await anyio.sleep(REPORT_PERIOD_S / 2)
        finally:
            health.ready = False

    def measure(self) -> AgentReport:
        """Make a report from the counters now and at the previous report."""
        now = time.monotonic()
        elapsed_s = max(now - self._at_s, 1e-9)
        acting, before = self._state.acting, self._acted
        paused_s = acting.all_pauses_s
        report = AgentReport(
            pid=os.getpid(),
            at_s=time.time(),
            recent=tuple(acting.recent),
            learner=self._measure_learner(elapsed_s),
            steps_per_s=(acting.steps - before.steps) / elapsed_s,
            pause_share=min(1.0, (paused_s - self._paused_s) / elapsed_s),
            events_dropped=self._publisher.dropped,
            **self._state.agent_figures(),
        )
        self._at_s, self._acted, self._paused_s = now, replace(acting), paused_s
        return report

    def _measure_learner(self, elapsed_s: float) -> LearnerReported | None:
        learning = self._state.learning
        if learning is None or not learning.trained:
            return None
        before = self._learned or LearningProgress(updates=learning.resumed_at)
        self._learned = replace(learning)
        updates_per_s = (learning.updates - before.updates) / elapsed_s
        return LearnerReported(
            updates_per_s=updates_per_s,
            samples_per_s=updates_per_s * self._state.settings.learner.batch_size,
            wait_share=min(1.0, (learning.wait_s - before.wait_s) / elapsed_s),
            limiter_share=min(1.0, (learning.limiter_s - before.limiter_s) / elapsed_s),
            **self._state.learner_figures(learning),
        )
