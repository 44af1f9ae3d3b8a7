"""One member's commands to its consumer group; they raise redis-py's errors."""

from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any, NamedTuple

from redis.asyncio import Redis

from borgcore.connection.client import address_of
from borgcore.eventlog.streams.append import append
from borgcore.eventlog.streams.fetch_size import FetchSize
from borgcore.eventlog.streams.server import Trims, count_unread, execute, find_evicting
from borgcore.events.topics import DEAD_LETTER
from borgcore.run.keys import RunKeys

ACKS_PER_COMMAND = 1_000
_RECLAIM, _CREATE, _ACKNOWLEDGE = (
    resources.files("borgcore.eventlog.streams").joinpath(f"{name}.lua").read_text(encoding="utf-8")
    for name in ("reclaim", "create", "acknowledge")
)
_NO_ENTRY = "18446744073709551615-0"  # the largest id, after which there is no entry
Entry = tuple[str, dict[bytes, bytes]]
"""Id and fields; the fields are empty if the entry was trimmed while pending."""


class Claim(NamedTuple):
    """Entries taken over from one dead member."""

    member: str
    pending: int
    entries: list[Entry]


class Removed(NamedTuple):
    """Entries of one stream that another client removed, or the server evicted."""

    entries: int
    first: str
    """Id of the first entry left; "-" if there is none."""


class StreamGroup:
    """A member of a group that reads the streams of its topics."""

    def __init__(self, redis: Redis, keys: RunKeys, topics: Sequence[str], *, group: str, member: str) -> None:
        """Send no command yet."""
        self.name = group
        self.address = address_of(redis)
        self._redis = redis
        self._keys = keys
        self.topics = tuple(topics)
        self._topics = {keys.events(topic).encode(): topic for topic in topics}
        self._member = member
        self._fetch_size = FetchSize()
        self._trims = Trims(keys, group)

    async def create(self) -> None:
        """Create missing streams and the missing group, which then begins at the oldest entry; a full server too."""
        pipe = self._redis.pipeline(transaction=False)
        for key, topic in self._topics.items():
            pipe.eval(_CREATE, 2, key, self._keys.events_accounts, self.name, topic)
        await execute(pipe)

    async def read(self, after: Mapping[str, str], entries: int, block_ms: int | None = None) -> dict[str, list[Entry]]:
        """Read, by topic, the member's own pending entries after an id, or new ones after ``>``.

        Return at most ``entries`` in all (but one per topic may come), and fewer if they are large. Wait up to
        ``block_ms`` for new ones; None does not wait.
        """
        asked: dict[Any, Any] = {self._keys.events(topic): position for topic, position in after.items()}
        count = max(1, min(entries, self._fetch_size.entries) // len(asked))
        reply: Any = await self._redis.xreadgroup(self.name, self._member, asked, count=count, block=block_ms)
        self._fetch_size.learn([fields for _, found in reply for _, fields in found])
        return {self._topics[key]: [(position.decode(), fields) for position, fields in found] for key, found in reply}

    async def send_heartbeat(self) -> None:
        """Reset the member's idle time without reading an entry."""
        await self.read(dict.fromkeys(self.topics, _NO_ENTRY), len(self.topics))

    async def reclaim(self, topic: str, dead_ms: int, entries: int) -> Claim | None:
        """Take over entries of one member that was silent for ``dead_ms``; None if no member was."""
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
            keys = (self._keys.events(topic), self._keys.events_accounts)
            for first in range(0, len(positions), ACKS_PER_COMMAND):
                ids = positions[first : first + ACKS_PER_COMMAND]
                pipe.eval(_ACKNOWLEDGE, len(keys), *keys, self.name, topic, *ids)
        await execute(pipe)

    async def trim(self) -> dict[str, Removed]:
        """Remove entries that all groups have acknowledged; return, by topic, what others removed meanwhile."""
        pipe = self._redis.pipeline(transaction=False)
        for topic in self.topics:
            self._trims.add(pipe, topic, 0)
        replies = zip(self.topics, await execute(pipe), strict=True)
        return {topic: Removed(self._trims.take(topic, reply), self._trims.first(topic)) for topic, reply in replies}

    async def send_dead_letters(self, dead_letters: Sequence[bytes], cap: int) -> None:
        """Append to the stream ``dead_letter``, even on a full server, and trim it to ``cap`` entries.

        Raises:
            EventsRefusedError: the server can never take some of them, and has all others.
        """
        entries = [(DEAD_LETTER, encoded) for encoded in dead_letters]
        await append(self._redis, self._keys, self._trims, entries, cap, even_if_full=True)

    async def unread(self) -> dict[str, int]:
        """Count, by topic, the entries that the group has not acknowledged."""
        return await count_unread(self._redis, self._keys, self.topics, self.name)

    async def find_evicting(self) -> str | None:
        """Return why the server may evict unread entries, or None."""
        return await find_evicting(self._redis)
