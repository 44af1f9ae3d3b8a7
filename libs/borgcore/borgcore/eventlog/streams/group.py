"""One member's calls to its consumer group; each raises what redis-py raises."""

from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any, NamedTuple

from redis.asyncio import Redis

from borgcore.connection.client import address_of
from borgcore.eventlog.streams.fetch_size import FetchSize
from borgcore.eventlog.streams.server import FIELD, count_backlog, execute, trim
from borgcore.events.schema import DEAD_LETTER
from borgcore.run.keys import RunKeys

ACKS_PER_COMMAND = 1_000
_RECLAIM = resources.files("borgcore.eventlog.streams").joinpath("reclaim.lua").read_text(encoding="utf-8")
_NO_ENTRY = "18446744073709551615-0"  # what follows it is nothing
Entry = tuple[str, dict[bytes, bytes]]
"""Id and fields; no fields where the entry was trimmed while it was pending."""


class Claim(NamedTuple):
    """What was taken over from one dead member."""

    member: str
    pending: int
    entries: list[Entry]


class StreamGroup:
    """A member of a group that reads the streams of some topics."""

    def __init__(self, redis: Redis, keys: RunKeys, topics: Sequence[str], *, group: str, member: str) -> None:
        """Call nothing yet."""
        self.name = group
        self.address = address_of(redis)
        self._redis = redis
        self._keys = keys
        self.topics = tuple(topics)
        self._topics = {keys.events(topic).encode(): topic for topic in topics}
        self._member = member
        self._fetch_size = FetchSize()

    async def create(self) -> None:
        """Create the streams and the group where they are missing; it then begins with the oldest entry."""
        pipe = self._redis.pipeline(transaction=False)
        for key in self._topics:
            pipe.xgroup_create(key, self.name, id="0", mkstream=True)
        for reply in await pipe.execute(raise_on_error=False):
            if isinstance(reply, Exception) and not str(reply).startswith("BUSYGROUP"):
                raise reply

    async def read(self, after: Mapping[str, str], entries: int, block_ms: int | None = None) -> dict[str, list[Entry]]:
        """Read, by topic, the member's own pending entries after an id, or new ones after ``>``.

        At most ``entries`` in all, as long as there are no more topics, and fewer where they are large; without
        ``block_ms`` there is no wait.
        """
        asked: dict[Any, Any] = {self._keys.events(topic): position for topic, position in after.items()}
        count = max(1, min(entries, self._fetch_size.entries) // len(asked))
        reply: Any = await self._redis.xreadgroup(self.name, self._member, asked, count=count, block=block_ms)
        self._fetch_size.learn([fields for _, found in reply for _, fields in found])
        return {self._topics[key]: [(position.decode(), fields) for position, fields in found] for key, found in reply}

    async def show_life(self) -> None:
        """Be heard of, and read nothing."""
        await self.read(dict.fromkeys(self.topics, _NO_ENTRY), len(self.topics))

    async def reclaim(self, topic: str, dead_ms: int, entries: int) -> Claim | None:
        """Take over entries of one member that was not heard of for ``dead_ms``; None where there is none such."""
        limits = (str(dead_ms), str(min(entries, self._fetch_size.entries)))
        reply: Any = await self._redis.eval(_RECLAIM, 1, self._keys.events(topic), self.name, self._member, *limits)
        if not reply:
            return None
        member, pending, found = reply
        claimed = [(entry[0].decode(), dict(zip(entry[1][::2], entry[1][1::2], strict=True))) for entry in found]
        self._fetch_size.learn([fields for _, fields in claimed])
        return Claim(member.decode(), pending, claimed)

    async def acknowledge(self, due: Mapping[str, Sequence[str]]) -> None:
        """Acknowledge entries, by topic, in one round trip."""
        pipe = self._redis.pipeline(transaction=False)
        for topic, positions in due.items():
            for first in range(0, len(positions), ACKS_PER_COMMAND):
                pipe.xack(self._keys.events(topic), self.name, *positions[first : first + ACKS_PER_COMMAND])
        await execute(pipe)

    async def trim(self) -> None:
        """Remove what all groups have acknowledged."""
        pipe = self._redis.pipeline(transaction=False)
        for topic in self.topics:
            trim(pipe, self._keys, topic, 0)
        await execute(pipe)

    async def send_dead_letters(self, letters: Sequence[bytes], cap: int) -> None:
        """Append to the stream ``dead_letter``, and keep it at ``cap`` entries."""
        pipe = self._redis.pipeline(transaction=False)
        for letter in letters:
            pipe.xadd(self._keys.events(DEAD_LETTER), {FIELD: letter})
        trim(pipe, self._keys, DEAD_LETTER, cap)
        await execute(pipe)

    async def backlog(self) -> int:
        """Count the entries that the group has not acknowledged."""
        return await count_backlog(self._redis, self._keys, self.topics, self.name)
