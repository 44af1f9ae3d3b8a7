"""Which number this agent has in its run, and whether it learns."""

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

LEARNER = 1  # the number whose holder trains
_RENEWALS = 4  # of a lease within its lifetime
_log = structlog.get_logger()


class LearnerNotNeeded(Exception):  # noqa: N818  # no error: a stop came before there was anything to stop
    """A pure learner was told to stop while another held number 1."""


class Membership:
    """A number held by a lease; in the mode ``elected`` the lowest number is taken over as soon as it is free."""

    def __init__(self, redis: Redis, settings: AgentSettings, lease: Lease) -> None:
        self.learns = anyio.Event()
        self.agents = 1
        """Agents of the run that are alive, this one included."""
        self._redis = redis
        self._settings = settings
        self._lease = lease
        self._assume_role()

    @property
    def number(self) -> int:
        """This agent's number, from 1."""
        return self._lease.number

    async def hold(self) -> None:
        """Renew the lease until cancelled; claim the learner's number where it is free and wanted.

        Raises:
            BorgError: the lease expired (this process was paused, or Redis away, for longer than its lifetime) and the
                number is another's by now: going on would mean two learners.
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
    """Claim a number for the time of the block; a pure learner waits for number 1, a pure actor leaves it to others.

    Raises:
        LearnerNotNeeded: a stop was asked for while a pure learner waited.
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
            except RedisError as error:  # what ended the block is to be heard, not this
                free_s = settings.lease_s
                _log.warning("number_kept", agent=membership.number, reason=str(error), free_after_s=free_s)


async def _wait_for_learner_number(redis: Redis, settings: AgentSettings, intake: CancelScope) -> Lease:
    said = False
    while (lease := await claim(redis, settings.run, LEARNER, settings.lease_s)) is None:
        if not said:
            _log.info("learner_number_taken", run=settings.run, poll_period_s=settings.lease_s / _RENEWALS)
            said = True
        await anyio.sleep(settings.lease_s / _RENEWALS)
        if intake.cancel_called:  # entered by the stages alone, which have not begun
            raise LearnerNotNeeded
    return lease
