"""Dead letters are listed, and stored once the cause of their refusal is mended, whichever log they are in."""

import socket
import uuid
from collections.abc import Sequence
from pathlib import Path

import anyio
import orjson
import pytest
from anyio import CancelScope, to_thread

from borgcore.eventlog.open import open_sender
from borgcore.eventlog.protocol import Outgoing
from borgcore.events.topics import DEAD_LETTER
from borgcore.eventstore.open import open_reader
from borgcore.eventstore.reader import EventFilter
from borgcore.settings.sections import EventsSettings
from borglogshipper.service import serve
from borglogshipper.settings import LogshipperSettings
from tests.limits import HANG_S, LONG_TEST_TIMEOUT_S

pytestmark = pytest.mark.timeout(LONG_TEST_TIMEOUT_S)
SHALLOW, DEEP = 2, 20


class Place:
    """One run's log and its database of events."""

    def __init__(self, events: EventsSettings, folder: Path) -> None:
        self.events, self.run, self.group = events, f"r{uuid.uuid4().hex[:12]}", f"g{uuid.uuid4().hex[:12]}"
        self.url = f"sqlite:///{folder}/events.sqlite"

    def settings(self, max_depth: int, *, replay: bool = False) -> LogshipperSettings:
        given = {"run": self.run, "group": self.group, "max_depth": max_depth, "replay_dead_letters": replay}
        log = {"events_url": self.events.url, "events_prefix": self.events.prefix}
        return LogshipperSettings.model_validate(given | log | {"store": {"url": self.url}})

    async def send(self, values: Sequence[bytes]) -> None:
        async with open_sender(self.events, self.run) as sender:
            await sender.send([Outgoing("training_log", b"key", value) for value in values])

    async def ship(self, documents: int, letters: int) -> None:
        """Ship until there are this many."""
        intake = CancelScope()
        with anyio.fail_after(HANG_S):
            async with anyio.create_task_group() as group:
                group.start_soon(serve, self.settings(SHALLOW), intake)
                while [len(await self.stored()), len(await self.stored(DEAD_LETTER))] != [documents, letters]:  # noqa: ASYNC110  # it is a file
                    await anyio.sleep(0.05)
                intake.cancel()

    async def replay(self, max_depth: int) -> None:
        with anyio.fail_after(HANG_S):
            await serve(self.settings(max_depth, replay=True), CancelScope())

    async def stored(self, topic: str | None = None) -> list[bytes]:
        def read() -> list[bytes]:
            with open_reader(self.url, EventFilter(topic)) as reader:
                return [] if reader is None else [document.encode() for document in reader.read()]

        return await to_thread.run_sync(read)


@pytest.fixture
def place(log: EventsSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """Each process finds another host's name, as in a container of its own."""
    monkeypatch.setattr(socket, "gethostname", lambda: f"h{uuid.uuid4().hex[:12]}")
    return Place(log, tmp_path)


def event(**fields: object) -> bytes:
    return orjson.dumps({"@timestamp": "2026-11-22T10:00:00.000Z", "event_id": str(uuid.uuid4())} | fields)


async def test_a_record_is_stored_once_its_cause_is_mended(place: Place, capfd: pytest.CaptureFixture[str]) -> None:
    good, deep, never = event(), event(nested={"in": {"here": 1}}), b"never JSON"
    await place.send([good, deep, never])
    await place.ship(documents=1, letters=2)
    reasons = [orjson.loads(letter)["reason"] for letter in await place.stored(DEAD_LETTER)]
    assert reasons[0] == f"it is nested 3 deep, the limit is {SHALLOW}"
    assert reasons[1].startswith("it is not JSON: ")

    await place.replay(SHALLOW)  # nothing was mended
    assert "dead letters: 2 read, 0 records stored, 2 refused again, 0 kept as they are\n" in capfd.readouterr().out
    assert await place.stored() == [good]

    await place.replay(DEEP)
    assert "dead letters: 2 read, 1 records stored, 1 refused again, 0 kept as they are\n" in capfd.readouterr().out
    assert await place.stored() == [good, deep]

    await place.replay(DEEP)
    assert "dead letters: 1 read, 0 records stored, 1 refused again, 0 kept as they are\n" in capfd.readouterr().out
    assert await place.stored() == [good, deep]
    assert len(await place.stored(DEAD_LETTER)) == 2, "one letter about each record, however often it was refused"


async def test_without_letters_a_replay_ends_at_once(place: Place, capfd: pytest.CaptureFixture[str]) -> None:
    await place.replay(DEEP)
    assert "dead letters: 0 read, 0 records stored, 0 refused again, 0 kept as they are\n" in capfd.readouterr().out
