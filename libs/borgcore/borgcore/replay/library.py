"""Loads functions.lua into the server and calls its functions, through restarts and outages."""

import hashlib
from collections.abc import Awaitable, Callable
from importlib import resources
from typing import Any, TypeVar

import anyio
from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from borgcore.connection.client import address_of
from borgcore.connection.failures import is_outage, server_error
from borgcore.connection.retry import Outage, retry_through_outage
from borgcore.run.keys import RunKeys

_SOURCE = resources.files("borgcore.replay").joinpath("functions.lua").read_text(encoding="utf-8")
HASH = hashlib.sha256(_SOURCE.encode()).hexdigest()[:12]
NAME = f"borg_replay_{HASH}"  # each version of functions.lua is its own library, so several can be in use at once
T = TypeVar("T")
CODE = f"#!lua name={NAME}\n" + _SOURCE.replace("_@'", f"_{HASH}'")


async def call_within(timeout_s: float, call: Callable[[], Awaitable[T]], *, subject: str, address: str) -> T:
    """Await ``call``, repeated through outages, for at most ``timeout_s`` seconds; ``subject`` starts the error texts.

    Raises:
        TimeoutError: no answer within ``timeout_s``.
        ServerError: the server refuses the call: out of memory, read-only, password.
    """
    outage = Outage()  # logs nothing: the client does
    try:
        with anyio.move_on_after(timeout_s):
            return await retry_through_outage(call, is_outage=is_outage, outage=outage)
    except RedisError as error:
        raise server_error(error, address) from error
    last = f", last: {outage.reason}" if outage.reason else ""
    raise TimeoutError(f"{subject}: no answer from Redis at {address} within {timeout_s:g} s{last}") from outage.error


class Library:
    """The functions of one run's memory.

    When the server has lost the memory itself, ``reopen`` is awaited before the call is repeated.
    """

    def __init__(self, redis: Redis, keys: RunKeys, reopen: Callable[[], Awaitable[None]]) -> None:
        """Load nothing yet; the first call does."""
        self._redis = redis
        self._keys = (keys.slots, keys.priorities, keys.meta)
        self._reopen = reopen
        self.address = address_of(redis)

    async def call(self, function: str, *args: bytes | str | float, timeout_s: float) -> list[Any]:
        """Call one function through outages, so it may run twice; raises what :func:`call_within` raises."""
        return await call_within(
            timeout_s, lambda: self._call(function, args), subject=f"replay {function}", address=self.address
        )

    async def _call(self, function: str, args: tuple[bytes | str | float, ...]) -> list[Any]:
        """Call once; if the server has lost the library or the memory, restore it (each once) and call again."""
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
        """Load the functions, if this user may: on a server without users of ours nobody else does."""
        await _load(self._redis)


async def load_functions(redis: Redis) -> bool:
    """Load the functions unless they are there, which a full server or one of another user might refuse.

    Returns:
        Whether they were missing.

    Raises:
        ServerError: the server is full, or the user may not load functions.
    """
    try:
        if await redis.function_list(library=NAME):
            return False
        await _load(redis)
    except RedisError as error:
        raise server_error(error, address_of(redis)) from error
    return True


async def _load(redis: Redis) -> None:
    try:
        await redis.function_load(CODE)
    except ResponseError as error:
        # another agent may have been first; the name contains the hash, so its library is the same
        if "already exists" not in str(error):
            raise
