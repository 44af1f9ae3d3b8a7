"""Agent numbers 1, 2, 3 … of a run, claimed by expiring leases; the number decides who learns.

A lease is a Redis key with an expiry; redis-py's ``Lock`` compares the token and renews in one server-side script.
There are no fencing tokens: a holder that was paused past the expiry notices the loss only at its next renewal.
"""

from dataclasses import dataclass

from redis.asyncio import Redis
from redis.asyncio.lock import Lock
from redis.exceptions import LockNotOwnedError

from borgcore.errors import MismatchError
from borgcore.run.keys import RunKeys

MAX_AGENTS = 1024  # of one run
_CLAIM = """#!lua flags=allow-oom
return redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2])
"""


class _LeaseLock(Lock):
    """A lock that a full server grants too: a learner samples and trains without adding data."""

    async def do_acquire(self, token: str | bytes) -> bool:
        """Set the key unless it exists."""
        expiry_ms = int(1_000 * (self.timeout or 0.0))
        return await self.redis.eval(_CLAIM, 1, self.name, token, expiry_ms) is not None


@dataclass(frozen=True)
class Lease:
    """A number held until ``ttl_s`` after the last renewal."""

    number: int
    ttl_s: float
    _lock: Lock

    async def renew(self) -> bool:
        """Extend the lease to ``ttl_s`` from now; return False if it had expired, so that another agent may hold it."""
        try:
            await self._lock.reacquire()
        except LockNotOwnedError:
            return False
        return True

    async def release(self) -> None:
        """Release the number at once, so that a successor need not wait for the expiry."""
        try:
            await self._lock.release()
        except LockNotOwnedError:
            return


async def claim(redis: Redis, run: str, number: int, ttl_s: float) -> Lease | None:
    """Claim one number; return None if another agent holds it."""
    lock = _LeaseLock(redis, RunKeys(run).lease(number), timeout=ttl_s, blocking=False, thread_local=False)
    return Lease(number, ttl_s, lock) if await lock.acquire() else None


async def claim_lowest(redis: Redis, run: str, ttl_s: float, first: int = 1) -> Lease:
    """Claim the lowest free number, starting at ``first``.

    Raises:
        MismatchError: all ``MAX_AGENTS`` numbers are held.
    """
    for number in range(first, MAX_AGENTS + 1):
        lease = await claim(redis, run, number, ttl_s)
        if lease is not None:
            return lease
    raise MismatchError(f"run {run} has {MAX_AGENTS} agents already, the most one run takes; this one ends")


async def count_holders(redis: Redis, run: str, known: int) -> int:
    """Count the leases held among the first ``2 * known + 1`` numbers; claims take the lowest free one."""
    keys = RunKeys(run)
    return int(await redis.exists(*[keys.lease(number) for number in range(1, min(2 * known + 1, MAX_AGENTS) + 1)]))
