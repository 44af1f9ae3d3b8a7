"""A real shipper process, the events it has to bring, and the exact set that has to arrive."""

import os
import signal
import socket
import sqlite3
import subprocess
import sys
import uuid
from collections.abc import Awaitable, Callable, Iterable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import orjson
from aiohttp import ClientError, ClientSession
from anyio import to_thread

from borgcore.eventlog.open import open_sender
from borgcore.eventlog.protocol import Outgoing
from borgcore.eventlog.publisher import encode_event
from borgcore.events.training import EpisodeEnded
from borgcore.settings.sections import EventsSettings
from tests.limits import HANG_S

FULL = os.environ.get("TEST_BORG_FAULTS") == "full"  # make test-faults
OUTAGE_S = 60.0 if FULL else 10.0
KILLS = 50 if FULL else 5
RECORDS = 100_000 if FULL else 20_000
LIMIT_S = 8 * HANG_S if FULL else 2 * HANG_S  # one wait; a guard against hanging alone
TEST_LIMIT_S = 4 * LIMIT_S  # a whole test, which waits several times
GRACE_S = 30.0  # of a shipper; a drain that outlasts it ends with 130
LOOK_S = 0.1
SEND_AT_ONCE = 2_000


@dataclass
class Shipper:
    """Processes of one shipper, one after the other; ``options`` are its settings as environment."""

    folder: Path
    options: dict[str, str]
    name: str = "one"
    process: "subprocess.Popen[bytes] | None" = field(default=None, repr=False)
    port: int = 0

    def start(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        settings = {
            "BORG_LOGSHIPPER_MEMBER": self.name,
            "BORG_LOGSHIPPER_RETRY__LIMIT_S": "1",
            "BORG_LOG_FORMAT": "json",
            "BORG_GRACE_S": str(GRACE_S),
            "BORG_HEALTH_ADDRESS": f"127.0.0.1:{self.port}",
        }
        with self.log.open("ab") as log:
            command = [sys.executable, "-P", "-m", "borglogshipper.main"]
            environment = {**kept, **settings, **self.options}
            self.process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=self.folder)

    @property
    def log(self) -> Path:
        return self.folder / f"shipper-{self.name}.log"

    def lives(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def kill(self) -> None:
        if self.process is not None and self.lives():
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()

    def stop(self) -> int:
        """SIGTERM; its exit code, 130 where the drain took longer than the grace."""
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(HANG_S)

    def lines(self, event: str) -> list[dict[str, Any]]:
        """Log events of one name."""
        found = [orjson.loads(line) for line in self.log.read_bytes().splitlines() if line.startswith(b"{")]
        return [line for line in found if line["event"] == event]

    async def page(self, path: str) -> tuple[int, str]:
        """A health page: status, 0 where nobody answers, and text."""
        try:
            async with ClientSession() as session, session.get(f"http://127.0.0.1:{self.port}{path}") as reply:
                return reply.status, await reply.text()
        except ClientError:
            return 0, ""

    async def wait_ready(self) -> None:
        await until(lambda: self._answers(200), f"{self.name} is ready", self.log)

    async def _answers(self, status: int) -> bool:
        return (await self.page("/readyz"))[0] == status


async def until(
    holds: Callable[[], Awaitable[bool]], promise: str, log: Path | None = None, limit_s: float = LIMIT_S
) -> None:
    """Wait until something holds, and say what was waited for where it does not."""
    try:
        with anyio.fail_after(limit_s):
            while not await holds():  # noqa: ASYNC110  # it happens in another process
                await anyio.sleep(LOOK_S)
    except TimeoutError:
        tail = "" if log is None else (await to_thread.run_sync(log.read_text))[-3000:]
        raise AssertionError(f"not within {limit_s:g} s: {promise}\n{tail}") from None


def make_events(count: int, run: str) -> dict[str, bytes]:
    """Events by their id."""
    made = {}
    for number in range(count):
        event = EpisodeEnded(
            agent=1 + number % 3,
            episode=number,
            episode_return=-21.0 + number % 42,
            episode_steps=1_000 + number,
            truncated=False,
            steps=number * 1_000,
            inserted=number * 3_000,
            epsilon=0.01,
            weights_version=number,
        )
        value = encode_event(event, run)
        made[orjson.loads(value)["event_id"]] = value
    return made


async def send(settings: EventsSettings, run: str, values: Iterable[bytes], topic: str = "training_log") -> None:
    """Put values into the log, spread over the partitions."""
    outgoing = [Outgoing(topic, str(number % 7).encode(), value) for number, value in enumerate(values)]
    async with open_sender(settings, run) as sender:
        for start in range(0, len(outgoing), SEND_AT_ONCE):
            await sender.send(outgoing[start : start + SEND_AT_ONCE])


class Elastic:
    """What is in Elasticsearch under a prefix, asked of the server itself."""

    def __init__(self, url: str, prefix: str) -> None:
        self.url, self.prefix = url, prefix

    async def call(self, method: str, path: str, body: object = None) -> Any:
        headers = {"Content-Type": "application/json"}
        data = None if body is None else orjson.dumps(body)
        async with (
            ClientSession() as session,
            session.request(method, f"{self.url}/{path}", data=data, headers=headers) as reply,
        ):
            return orjson.loads(await reply.read())

    async def count(self, topic: str = "training_log") -> int:
        path = f"{self.prefix}{topic}-*"
        await self.call("POST", f"{path}/_refresh")
        return int((await self.call("GET", f"{path}/_count")).get("count", 0))

    async def documents(self, topic: str = "training_log") -> dict[str, Any]:
        """All of them by id."""
        found: dict[str, Any] = {}
        query: dict[str, Any] = {"size": 5_000, "sort": ["_doc"], "query": {"match_all": {}}}
        reply = await self._search(f"{self.prefix}{topic}-*/_search?scroll=1m", query)
        while reply["hits"]["hits"]:
            found |= {hit["_id"]: hit["_source"] for hit in reply["hits"]["hits"]}
            reply = await self._search("_search/scroll", {"scroll": "1m", "scroll_id": reply["_scroll_id"]})
        return found

    async def _search(self, path: str, query: dict[str, Any]) -> Any:
        """Ask until it answers: an index that was made this very moment cannot be searched yet."""
        with anyio.fail_after(LIMIT_S):
            while "hits" not in (reply := await self.call("POST", path, query)):  # noqa: ASYNC110  # it is another process
                await anyio.sleep(LOOK_S)
        return reply

    async def clean(self) -> None:
        for topic in ("training_log", "memory_monitoring"):
            found = await self.call("GET", f"_cat/indices/{self.prefix}{topic}-*?format=json")
            for index in found if isinstance(found, list) else []:
                await self.call("DELETE", index["index"])
            await self.call("DELETE", f"_index_template/{self.prefix}{topic}")


class Sqlite:
    """What is in an SQLite store."""

    def __init__(self, path: Path) -> None:
        self.path = path

    async def count(self) -> int:
        return len(await self.documents())

    async def documents(self, topic: str = "training_log") -> dict[str, Any]:
        return await to_thread.run_sync(self._read, topic)

    def _read(self, topic: str) -> dict[str, Any]:
        if not self.path.exists():
            return {}
        with closing(sqlite3.connect(self.path, timeout=HANG_S)) as database:
            try:
                rows = database.execute("SELECT event_id, document FROM events WHERE topic = ?", [topic]).fetchall()
            except sqlite3.OperationalError:  # no table yet
                return {}
        return {name: orjson.loads(document) for name, document in rows}


async def expect(store: Elastic | Sqlite, events: dict[str, bytes], *shippers: Shipper) -> None:
    """Wait until so many documents are there, stop the shippers, and hold what is there then to the events.

    None lost, none doubled, none changed; every shipper ends as it should.
    """
    log = shippers[0].log

    async def enough() -> bool:
        return await store.count() >= len(events)

    await until(enough, f"{len(events)} documents", log)
    for shipper in shippers:
        assert await to_thread.run_sync(shipper.stop) == 0
    found = await store.documents()
    assert len(found) == await store.count()
    assert found.keys() == events.keys()
    assert found == {name: orjson.loads(value) for name, value in events.items()}


def unique() -> str:
    return f"t{uuid.uuid4().hex[:10]}-"
