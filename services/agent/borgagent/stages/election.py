"""The agent's number in its run, and with it the election of the learner: the agent with number 1 trains."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import structlog
from anyio import CancelScope
from redis.asyncio import Redis
from redis.exceptions import RedisError

from borgagent.settings import AgentSettings
from borgcore.errors import BorgError
from borgcore.run.leases import Lease, claim, claim_lowest, count_holders

LEARNER = 1  # the number of the agent that trains
_RENEWALS = 4  # of a lease within its lifetime
_log = structlog.get_logger()


class LearnerNotNeeded(Exception):  # noqa: N818  # not an error: the process was stopped before it had a task
    """A learner that does not act was stopped while another agent held number 1."""


class Membership:
    """A number held by a lease. In mode ``elected`` an agent claims number 1 as soon as it is free."""

    def __init__(self, redis: Redis, settings: AgentSettings, lease: Lease) -> None:
        self.learns = anyio.Event()
        """Set once this agent is the one that trains."""
        self.agents = 1
        """Live agents of the run, including this one."""
        self._redis = redis
        self._settings = settings
        self._lease = lease
        self._assume_role()

    @property
    def number(self) -> int:
        """This agent's number, from 1."""
        return self._lease.number

    async def hold(self) -> None:
        """Renew the lease until cancelled, and stand for election if the mode is ``elected``.

        Raises:
            BorgError: the lease expired, because this process was paused or Redis was away for longer than ``lease_s``,
                and another agent has claimed the number; continuing could mean two learners.
        """
        settings = self._settings
        while True:
            await anyio.sleep(settings.lease_s / _RENEWALS)
            if not await self._lease.renew():
                await self._reclaim()
            if settings.learn == "elected" and self.number != LEARNER:
                await self._stand_for_election()
            self.agents = max(1, await count_holders(self._redis, settings.run, max(self.number, self.agents)))

    async def _reclaim(self) -> None:
        lease = await claim(self._redis, self._settings.run, self.number, self._settings.lease_s)
        if lease is None:
            raise BorgError(
                f"agent {self.number} of run {self._settings.run} was silent for over {self._settings.lease_s:g} s and "
                "another has its number now; this process ends, a new one can take its place"
            )
        self._lease = lease
        _log.warning("number_reclaimed", agent=self.number)

    async def _stand_for_election(self) -> None:
        lease = await claim(self._redis, self._settings.run, LEARNER, self._settings.lease_s)
        if lease is None:
            return
        former, self._lease = self._lease, lease
        await former.release()
        await self._redis.hdel(self._settings.keys.reports, str(former.number))
        _log.info("learner_elected", agent=self.number, former=former.number)
        self._assume_role()

    def _assume_role(self) -> None:
        private = self._settings.learn == "private"
        if private or (self._settings.learn != "never" and self.number == LEARNER):
            self.learns.set()

    async def leave(self) -> None:
        """Give the number back."""
        await self._lease.release()
        await self._redis.hdel(self._settings.keys.reports, str(self.number))


@asynccontextmanager
async def join(redis: Redis, settings: AgentSettings, intake: CancelScope) -> AsyncIterator[Membership]:
    """Hold a number during the block: number 1 in mode ``only``, from 2 in mode ``never``, else the lowest free one.

    Raises:
        LearnerNotNeeded: ``intake`` was cancelled in mode ``only`` while another agent held number 1.
    """
    if settings.learn == "only":
        lease = await _wait_for_learner_number(redis, settings, intake)
    else:
        first = LEARNER + 1 if settings.learn == "never" else LEARNER
        lease = await claim_lowest(redis, settings.run, settings.lease_s, first)
    membership = Membership(redis, settings, lease)
    _log.info("number_claimed", agent=membership.number, learns=membership.learns.is_set())
    try:
        yield membership
    finally:
        with anyio.move_on_after(settings.redis.timeout_s, shield=True):
            try:
                await membership.leave()
            except RedisError as error:  # must not replace the error that ended the block
                free_s = settings.lease_s
                _log.warning("number_kept", agent=membership.number, reason=str(error), free_after_s=free_s)


async def _wait_for_learner_number(redis: Redis, settings: AgentSettings, intake: CancelScope) -> Lease:
    logged = False
    while (lease := await claim(redis, settings.run, LEARNER, settings.lease_s)) is None:
        if not logged:
            _log.info("learner_number_taken", run=settings.run, poll_period_s=settings.lease_s / _RENEWALS)
            logged = True
        await anyio.sleep(settings.lease_s / _RENEWALS)
        if intake.cancel_called:  # polled: only the stages, which have not begun, run inside its scope
            raise LearnerNotNeeded
    return lease
