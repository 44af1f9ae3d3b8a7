"""The agent's report of itself, once a second."""

import os
import time
from dataclasses import replace

import anyio
from redis.asyncio import Redis

from borgagent.acting import ActingProgress
from borgagent.learning import LearningProgress
from borgagent.membership import Membership
from borgagent.settings import AgentSettings
from borgcore.reports import AgentReport, LearnerReport, write_report

REPORT_PERIOD_S = 1.0


class Reporter:
    """Turns the stages' counters into rates over the time since the report before."""

    def __init__(self, redis: Redis, settings: AgentSettings, membership: Membership, acting: ActingProgress) -> None:
        self.learning: LearningProgress | None = None
        self._redis = redis
        self._settings = settings
        self._membership = membership
        self._acting = acting
        self._at_s = time.monotonic()
        self._acted = replace(acting)
        self._paused_s = 0.0
        self._learned = LearningProgress()

    async def run(self) -> None:
        """Write a report each period until cancelled."""
        while True:
            await anyio.sleep(REPORT_PERIOD_S)
            await self.write()

    async def write(self) -> None:
        """Write one report now."""
        now = time.monotonic()
        elapsed_s = max(now - self._at_s, 1e-9)
        acting, before, paused_s = self._acting, self._acted, self._acting.all_pauses_s
        report = AgentReport(
            agent=self._membership.number,
            pid=os.getpid(),
            at_s=time.time(),
            steps=acting.steps,
            steps_per_s=(acting.steps - before.steps) / elapsed_s,
            episodes=acting.episodes,
            epsilon=acting.epsilon,
            weights_version=acting.weights_version,
            recent=list(acting.recent),
            pause_share=min(1.0, (paused_s - self._paused_s) / elapsed_s),
            learner=self._learner_report(elapsed_s),
        )
        self._at_s, self._acted, self._paused_s = now, replace(acting), paused_s
        await write_report(self._redis, self._settings.run, report)

    def _learner_report(self, elapsed_s: float) -> LearnerReport | None:
        learning = self.learning
        if learning is None or learning.began_s is None:
            return None
        before = self._learned if self._learned.began_s is not None else replace(learning, wait_s=0.0, limiter_s=0.0)
        self._learned = replace(learning)
        return LearnerReport(
            updates=learning.updates,
            updates_per_s=(learning.updates - before.updates) / elapsed_s,
            loss=learning.loss,
            mean_q=learning.mean_q,
            wait_share=min(1.0, (learning.wait_s - before.wait_s) / elapsed_s),
            limiter_share=min(1.0, (learning.limiter_s - before.limiter_s) / elapsed_s),
            batch_size=self._settings.learner.batch_size,
        )
