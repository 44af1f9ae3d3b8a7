"""Loads functions.lua into the server and calls it, through restarts and outages."""

import hashlib
from collections.abc import Awaitable, Callable
from importlib import resources
from typing import Any, TypeVar

import anyio
from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from borgcore.connection.client import address_of
from borgcore.connection.failures import is_outage, server_error
from borgcore.connection.retry import backoff_s
from borgcore.run.keys import RunKeys

_SOURCE = resources.files("borgcore.replay").joinpath("functions.lua").read_text(encoding="utf-8")
HASH = hashlib.sha256(_SOURCE.encode()).hexdigest()[:12]
NAME = f"borg_replay_{HASH}"  # another version of this file is another library, and both can be in use at once
T = TypeVar("T")
CODE = f"#!lua name={NAME}\n" + _SOURCE.replace("_@'", f"_{HASH}'")


async def retry_through_outage(ask: Callable[[], Awaitable[T]], subject: str, address: str, timeout_s: float) -> T:
    """Await ``ask``, again and again through an outage, ``timeout_s`` at most; ``subject`` names it in the errors.

    Raises:
        TimeoutError: no answer within ``timeout_s``.
        ServerError: the server refuses: out of memory, read-only, password.
    """
    last: BaseException | None = None
    failures = 0
    with anyio.move_on_after(timeout_s):
        while True:
            try:
                return await ask()
            except RedisError as error:
                if not is_outage(error):
                    raise server_error(error, address) from error
                last, failures = error, failures + 1
            await anyio.sleep(backoff_s(failures))
    raise TimeoutError(
        f"{subject}: no answer from Redis at {address} within {timeout_s:g} s" + (f", last: {last}" if last else "")
    ) from last


class Library:
    """The functions of one run's memory.

    ``reopen`` is called when the server has lost the memory itself, before the call is repeated.
    """

    def __init__(self, redis: Redis, keys: RunKeys, reopen: Callable[[], Awaitable[None]]) -> None:
        """Load nothing yet: the first call does."""
        self._redis = redis
        self._keys = (keys.slots, keys.priorities, keys.meta)
        self._reopen = reopen
        self.address = address_of(redis)

    async def call(self, function: str, *args: bytes | str | float, timeout_s: float) -> list[Any]:
        """Call one function through outages, so it may run twice; raises as :func:`retry_through_outage`."""
        subject = f"replay {function}"
        return await retry_through_outage(lambda: self._healed(function, args), subject, self.address, timeout_s)

    async def _healed(self, function: str, args: tuple[bytes | str | float, ...]) -> list[Any]:
        """Call; load the library where the server has none, open the memory where it has lost it; each once."""
        loaded = reopened = False
        while True:
            try:
                reply: list[Any] = await self._redis.fcall(f"borg_{function}_{HASH}", 3, *self._keys, *args)
            except ResponseError as error:
                if "Function not found" in str(error) and not loaded:
                    loaded = True
                    await self._load()
                elif str(error).startswith("NOMEMORY") and not reopened:
                    reopened = True
                    await self._reopen()
                else:
                    raise
            else:
                return reply

    async def _load(self) -> None:
        try:
            await self._redis.function_load(CODE)
        except ResponseError as error:
            if "already exists" not in str(
                error
            ):  # another agent was first; the name carries the hash, so it is the same
                raise
