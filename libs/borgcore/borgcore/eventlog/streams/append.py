"""Appends entries to streams, and tells an entry that can never be taken from a server that cannot be used now."""

from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from borgcore.eventlog.protocol import EventsRefusedError, Refusal
from borgcore.eventlog.streams.server import FIELD, Trims
from borgcore.run.keys import RunKeys

LOWEST_LIMIT_BYTES = 1 << 20  # the lowest proto-max-bulk-len that a server lets one set
_APPEND = resources.files("borgcore.eventlog.streams").joinpath("append.lua").read_text(encoding="utf-8")
_LIMIT = "proto-max-bulk-len"
Entry = tuple[str, bytes]
"""Topic and value."""


async def append(
    redis: Redis, keys: RunKeys, trims: Trims, entries: Sequence[Entry], cap: int, *, even_if_full: bool = False
) -> None:
    """Append entries and trim their streams to ``cap`` in one round trip; raise the first error of redis-py as it is.

    Raises:
        EventsRefusedError: the server can never take some of them, and has all others.
    """
    appending = _Appending(redis, keys, trims, cap, even_if_full=even_if_full)
    try:
        refusals = await appending.append(dict(enumerate(entries)))
    except (RedisConnectionError, OSError):
        if all(len(value) <= LOWEST_LIMIT_BYTES for _, value in entries):
            raise
        refusals = await appending.append_without_too_large(entries)
        if not refusals:
            raise
    if refusals:
        raise EventsRefusedError(dict(sorted(refusals.items())))


class _Appending:
    def __init__(self, redis: Redis, keys: RunKeys, trims: Trims, cap: int, *, even_if_full: bool) -> None:
        self._redis = redis
        self._keys = keys
        self._trims = trims
        self._cap = cap
        self._even_if_full = even_if_full

    async def append_without_too_large(self, entries: Sequence[Entry]) -> dict[int, Refusal]:
        """Append after the connection was lost, which is how a server answers a value beyond its limit."""
        try:
            limit = int((await self._redis.config_get(_LIMIT))[_LIMIT] or 0)
        except (ResponseError, KeyError):  # our user may not ask
            return {}
        refusals, rest = {}, {}
        for row, (topic, value) in enumerate(entries):
            if len(value) > limit:
                found = f"it has {len(value)} bytes, the server takes at most {limit} ({_LIMIT})"
                refusals[row] = Refusal(f"the stream {self._keys.events(topic)} refused it: {found}", limit)
            else:
                rest[row] = (topic, value)
        return refusals | (await self.append(rest) if refusals and rest else {})

    async def append(self, entries: Mapping[int, Entry]) -> dict[int, Refusal]:
        """Append entries and return the refusals by the key of their entry."""
        pipe = self._redis.pipeline(transaction=False)
        for topic, value in entries.values():
            if self._even_if_full:
                pipe.eval(_APPEND, 1, self._keys.events(topic), FIELD, value)
            else:
                pipe.xadd(self._keys.events(topic), {FIELD: value})
        topics = {topic: None for topic, _ in entries.values()}
        for topic in topics:
            self._trims.add(pipe, topic, self._cap)
        replies: list[Any] = await pipe.execute(raise_on_error=False)
        refusals = {}
        for (row, (topic, _)), reply in zip(entries.items(), replies, strict=False):
            if _is_refusal(reply):
                refusals[row] = Refusal(f"the stream {self._keys.events(topic)} refused it: {reply}")
            elif isinstance(reply, Exception):
                raise reply
        refused = {entries[row][0] for row in refusals}
        for topic, reply in zip(topics, replies[len(entries) :], strict=True):
            if not isinstance(reply, Exception):
                self._trims.take(topic, reply)
            elif topic not in refused:
                raise reply
        return refusals


def _is_refusal(reply: object) -> bool:
    """Return whether an error is about the entry or its stream; other error codes are about the server or our user."""
    if type(reply) is not ResponseError:  # its subclasses, such as OutOfMemoryError, are other codes
        return False
    text = str(reply)
    code = text.partition(" ")[0]
    return code == "WRONGTYPE" or not (code.isupper() or text.startswith("unknown command"))
