"""A replay reads each letter once, and loses none that it cannot store."""

from collections.abc import Sequence

import anyio
import orjson
import pytest

from borgcore.eventlog.protocol import Partition
from borgcore.events.topics import DEAD_LETTER
from borgcore.service.health import Health
from borglogshipper.pipeline.dead_letter import encode_dead_letter
from borglogshipper.pipeline.progress import Troubles
from borglogshipper.pipeline.record import Refused
from borglogshipper.pipeline.record_id import Origin
from borglogshipper.replay import DeadLetterReplay
from borglogshipper.settings import LogshipperSettings
from borglogshipper.stores.store import StoreBusyError
from tests.limits import HANG_S

from .pipeline.fakes import LOG, TIME_MS, FakeConsumer, FakeStore, chunk_of, event_of

LETTERS = Partition(DEAD_LETTER, 0)


class QueueConsumer(FakeConsumer):
    """A log in which the letters sent to it can be read again."""

    def __init__(self) -> None:
        super().__init__()
        self.end = 0

    def append(self, *values: bytes | None) -> None:
        for value in values:
            self.put(chunk_of(value, partition=LETTERS, first=self.end))
            self.end += 1

    async def send_dead_letters(self, dead_letters: Sequence[bytes]) -> None:
        await super().send_dead_letters(dead_letters)
        self.append(*dead_letters)

    async def lag(self) -> int:
        await anyio.lowlevel.checkpoint()
        committed = self.committed.get(LETTERS)
        return self.end - (0 if committed is None else int(committed) + 1)


def letter(value: bytes, position: int = 0, most_bytes: int = 1_000) -> bytes:
    return encode_dead_letter(Refused(Origin(LOG, position, TIME_MS), value, "it was too deep"), most_bytes)


@pytest.fixture
def log() -> QueueConsumer:
    return QueueConsumer()


async def replay(log: QueueConsumer, store: FakeStore) -> str:
    found = DeadLetterReplay(LogshipperSettings(), log, store, Troubles(Health()))
    with anyio.fail_after(HANG_S):
        await found.run()
    return str(found)


async def test_records_get_into_the_store_once_with_the_ids_that_they_would_have_had(
    log: QueueConsumer, store: FakeStore
) -> None:
    own, foreign = event_of(), b'{"note": "of another program"}'
    log.append(letter(own, 3), letter(foreign, 4), letter(foreign, 4))  # a letter can be in the log twice
    assert await replay(log, store) == "dead letters: 3 read, 3 records stored, 0 refused again, 0 kept as they are"
    assert {id_ for _, id_ in store.kept} == {orjson.loads(own)["event_id"], "training_log-0-4"}
    assert own in store.bodies()
    assert log.dead_letters == []
    assert await replay(log, store) == "dead letters: 0 read, 0 records stored, 0 refused again, 0 kept as they are"


async def test_a_record_that_is_refused_again_has_a_letter_for_the_next_replay(
    log: QueueConsumer, store: FakeStore
) -> None:
    log.append(letter(b"no JSON", 1), letter(event_of(), 2), letter(b"no JSON", 1))
    assert await replay(log, store) == "dead letters: 3 read, 1 records stored, 2 refused again, 0 kept as they are"
    assert len(store.kept) == 1
    assert {orjson.loads(sent)["position"] for sent in log.dead_letters} == {1}
    assert await log.lag() == len(log.dead_letters)


@pytest.mark.parametrize(
    "odd", [b"no letter", None, letter(b"long" * 100, 7, most_bytes=10)], ids=["other", "empty", "cut"]
)
async def test_a_letter_without_a_whole_record_stays_in_the_log(
    log: QueueConsumer, store: FakeStore, odd: bytes | None
) -> None:
    log.append(odd, letter(event_of(), 2))
    assert await replay(log, store) == "dead letters: 2 read, 1 records stored, 0 refused again, 1 kept as they are"
    assert log.dead_letters == [odd or b""]
    assert await log.lag() == 1


async def test_letters_that_arrive_after_those_put_back_wait_for_the_next_replay(
    log: QueueConsumer, store: FakeStore
) -> None:
    log.append(b"no letter")
    await replay(log, store)
    fresh = QueueConsumer()
    fresh.append(*log.dead_letters, letter(event_of(), 5))
    assert await replay(fresh, store) == "dead letters: 2 read, 1 records stored, 0 refused again, 1 kept as they are"


async def test_what_was_read_is_committed_only_once_it_is_stored_or_back_in_the_log(
    log: QueueConsumer, store: FakeStore
) -> None:
    log.append(letter(b"no JSON", 1))
    log.dead_letter_errors.append(RuntimeError("the log is gone"))
    with pytest.raises(ExceptionGroup):
        await replay(log, store)
    assert log.commits == []
    log.put(chunk_of(letter(b"no JSON", 1), partition=LETTERS))
    await replay(log, store)
    assert log.committed == {LETTERS: 0}


async def test_a_replay_that_is_stopped_counts_only_what_is_stored(log: QueueConsumer, store: FakeStore) -> None:
    log.append(letter(event_of(), 1), letter(event_of(), 2))
    store.answers.extend([{}, *[StoreBusyError("away")] * 1_000])
    found = DeadLetterReplay(LogshipperSettings(), log, store, Troubles(Health()))
    with anyio.fail_after(HANG_S):
        async with anyio.create_task_group() as group:
            group.start_soon(found.run)
            while len(store.written) < 2:  # noqa: ASYNC110  # the second record is on its way
                await anyio.sleep(0.001)
            group.cancel_scope.cancel()
    assert str(found) == "dead letters: 2 read, 1 records stored, 0 refused again, 0 kept as they are"
