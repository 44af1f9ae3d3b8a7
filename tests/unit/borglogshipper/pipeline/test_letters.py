"""A letter that the log refuses is shortened; one that it never takes holds its batch, and health names it."""

from collections import deque
from collections.abc import Callable

import anyio
import orjson
import pytest
from structlog.testing import capture_logs

from borgcore.connection.retry import Backoff
from borgcore.errors import EventLogError
from borgcore.service.health import Health
from borglogshipper.pipeline.delivery import Delivery
from borglogshipper.pipeline.letters import VALUE_BYTES, DeadLetters
from borglogshipper.pipeline.progress import ShippingProgress, Troubles
from borglogshipper.pipeline.record import Refused
from borglogshipper.pipeline.record_id import Origin
from borglogshipper.stores.store import StoreBusyError
from tests.limits import HANG_S

from .fakes import LOG, TIME_MS, FakeConsumer, FakeStore, batch_of, chunk_of, event_of
from .shipping import Ship, shipping

NEVER = 10  # bytes, fewer than any letter has


@pytest.fixture
def letters(consumer: FakeConsumer, store: FakeStore, progress: ShippingProgress, health: Health) -> DeadLetters:
    return DeadLetters(consumer, store, Backoff(0.001, 0.001), progress, Troubles(health), outage_s=0.0)


def refused(*values: bytes) -> list[Refused]:
    return [Refused(Origin(LOG, row, TIME_MS), value, f"reason {row}") for row, value in enumerate(values)]


async def until(holds: Callable[[], object]) -> None:
    with anyio.fail_after(HANG_S):
        while not holds():  # noqa: ASYNC110  # a health state has no event
            await anyio.sleep(0.001)


@pytest.mark.parametrize("step", range(1, len(VALUE_BYTES)))
async def test_a_refused_letter_is_shortened_until_the_log_takes_it(
    letters: DeadLetters, consumer: FakeConsumer, progress: ShippingProgress, health: Health, step: int
) -> None:
    consumer.most_letter_bytes = VALUE_BYTES[step] + 600
    value = b"x" * VALUE_BYTES[0]
    with anyio.fail_after(HANG_S):
        await letters.write(refused(b"short", value, b"short as well"), 3)
    found = {letter["position"]: letter for letter in map(orjson.loads, consumer.dead_letters)}
    assert found.keys() == {0, 1, 2}
    assert found[0]["value"] == "short"
    assert found[1]["value"] == "x" * VALUE_BYTES[step]
    assert (found[1]["truncated"], found[1]["size_bytes"]) == (True, len(value))
    assert (progress.dead_letters, consumer.letters_refused) == (3, step)
    assert health.faults == {}


async def test_a_store_that_keeps_letters_gets_those_that_the_log_has(
    letters: DeadLetters, consumer: FakeConsumer, store: FakeStore
) -> None:
    store.keeps_dead_letters = True
    store.answers = deque([StoreBusyError("away"), {}])
    with anyio.fail_after(HANG_S):
        await letters.write(refused(b"poison", b"more"), 2)
        await letters.write(refused(b"poison"), 1)  # after a crash, before its commit
    assert store.bodies() == consumer.dead_letters[:2]
    month = orjson.loads(consumer.dead_letters[0])["@timestamp"][:7].replace("-", ".")
    assert {index for index, _ in store.kept} == {f"dead_letter-{month}"}


async def test_another_store_gets_no_letters(letters: DeadLetters, consumer: FakeConsumer, store: FakeStore) -> None:
    with anyio.fail_after(HANG_S):
        await letters.write(refused(b"poison"), 1)
    assert len(consumer.dead_letters) == 1
    assert store.asked == []


async def test_a_letter_that_is_never_taken_is_held_and_named_until_the_topic_is_mended(
    letters: DeadLetters, consumer: FakeConsumer, progress: ShippingProgress, health: Health
) -> None:
    consumer.most_letter_bytes = NEVER
    with capture_logs() as logs, anyio.fail_after(HANG_S):
        async with anyio.create_task_group() as group:
            group.start_soon(letters.write, refused(b"poison"), 1)
            await until(lambda: consumer.letters_refused > 3 * len(VALUE_BYTES))
            fault = health.faults["dead_letter"]
            consumer.most_letter_bytes = 1_000
    assert fault == (
        f"the topic dead_letter takes at most {NEVER} bytes; the letter about the record training_log-0-0 (reason 0) "
        "waits, and its batch is not committed"
    )
    assert health.faults == {}
    assert [orjson.loads(letter)["value"] for letter in consumer.dead_letters] == ["poison"]
    assert progress.dead_letters == 1
    assert [line["event"] for line in logs] == ["dead_letters_held", "dead_letters_resumed", "records_refused"]
    assert logs[0]["reason"] == fault


async def test_the_fault_stays_while_another_letter_is_held(
    letters: DeadLetters, consumer: FakeConsumer, health: Health
) -> None:
    consumer.most_letter_bytes = 500
    long = Refused(Origin(LOG, 9, TIME_MS), b"", "long " * 50)
    with anyio.fail_after(HANG_S):
        async with anyio.create_task_group() as group:
            group.start_soon(letters.write, [long], 1)
            await until(lambda: "training_log-0-9" in health.faults.get("dead_letter", ""))
            await letters.write(refused(b""), 1)
            assert "training_log-0-9" in health.faults["dead_letter"]
            consumer.most_letter_bytes = 1_000
    assert health.faults == {}


async def test_an_outage_names_the_record_that_waits_and_is_given_up(
    letters: DeadLetters, consumer: FakeConsumer, health: Health
) -> None:
    consumer.dead_letter_errors.append(EventLogError("the log is away"))
    with pytest.raises(EventLogError, match="the log is away"):
        await letters.write(refused(b"poison"), 1)
    assert health.faults["dead_letter"].startswith("the log is away; the letter about the record training_log-0-0 ")


async def test_the_good_records_of_a_batch_are_stored_while_its_letter_is_held(
    delivery: Delivery, store: FakeStore, consumer: FakeConsumer, progress: ShippingProgress, health: Health
) -> None:
    consumer.most_letter_bytes = NEVER
    good = [event_of(), event_of()]
    with anyio.fail_after(HANG_S):
        async with anyio.create_task_group() as group:
            group.start_soon(delivery.deliver, batch_of(good[0], b"poison", good[1]))
            await until(lambda: store.bodies() == good and "dead_letter" in health.faults)
            assert (progress.shipped, progress.batches) == (2, 0)
            consumer.most_letter_bytes = 1_000
    assert (progress.dead_letters, progress.batches) == (1, 1)


async def test_a_shipper_that_holds_a_letter_stops_when_asked_and_commits_nothing_of_its_batch() -> None:
    ship = Ship(grace_s=0.5)
    ship.consumer.most_letter_bytes = NEVER
    async with shipping(ship):
        ship.consumer.put(chunk_of(event_of(), b"poison"))
        await until(lambda: ship.store.kept and "dead_letter" in ship.health.faults)
    assert ship.ended.is_set()
    assert ship.consumer.commits == []
