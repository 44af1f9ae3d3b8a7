"""A record that can never be indexed goes to dead_letter, or its batch is not done."""

import anyio
import orjson
import pytest
from structlog.testing import capture_logs

from borgcore.errors import EventLogError
from borgcore.service.health import Health
from borglogshipper.pipeline.delivery import Delivery
from borglogshipper.pipeline.progress import ShippingProgress, Troubles
from borglogshipper.settings import RetrySettings
from tests.limits import HANG_S

from .fakes import REFUSED, FakeConsumer, FakeStore, batch_of, event_of

pytestmark = pytest.mark.usefixtures("waits")


async def deliver(delivery: Delivery, *values: bytes | None) -> None:
    with anyio.fail_after(HANG_S):
        await delivery.deliver(batch_of(*values))


def letters_of(consumer: FakeConsumer) -> dict[int, str]:
    found = [orjson.loads(letter) for letter in consumer.dead_letters]
    return {letter["position"]: letter["reason"] for letter in found}


async def test_what_the_reader_refused_is_dead_lettered_and_counts_for_nothing_else(
    delivery: Delivery, store: FakeStore, consumer: FakeConsumer, progress: ShippingProgress
) -> None:
    value = event_of()
    with capture_logs() as logs:
        await deliver(delivery, b"poison", value, None)
    assert letters_of(consumer).keys() == {0, 2}
    assert store.bodies() == [value]
    assert progress == ShippingProgress(shipped=1, dead_letters=2, batches=1, size_bytes=len(value))
    [said] = logs
    assert (said["event"], said["records"], said["of"]) == ("records_refused", 2, 3)
    assert said["first"].startswith("training_log-0-0: it is not JSON")


async def test_a_batch_of_refused_records_alone_never_asks_the_store(
    delivery: Delivery, store: FakeStore, consumer: FakeConsumer, progress: ShippingProgress
) -> None:
    await deliver(delivery, b"1", b"2")
    assert store.asked == []
    assert len(consumer.dead_letters) == progress.dead_letters == 2


async def test_a_document_that_the_store_refuses_is_dead_lettered_as_it_came_with_the_reason(
    delivery: Delivery, store: FakeStore, consumer: FakeConsumer, progress: ShippingProgress
) -> None:
    good, pretty = event_of(), b'{\n"a":1}'
    store.answers.append({1: REFUSED})
    await deliver(delivery, good, pretty)
    [letter] = map(orjson.loads, consumer.dead_letters)
    assert (letter["position"], letter["value"], letter["reason"]) == (1, pretty.decode(), REFUSED.reason)
    assert progress == ShippingProgress(shipped=1, dead_letters=1, batches=1, size_bytes=len(good))


async def test_a_dead_letter_is_retried_while_the_log_may_come_back(
    delivery: Delivery, consumer: FakeConsumer, progress: ShippingProgress, waits: list[float]
) -> None:
    consumer.dead_letter_errors += [EventLogError("away")] * 3
    await deliver(delivery, b"poison", event_of())
    assert len(waits) == 3
    assert len(consumer.dead_letters) == progress.dead_letters == 1


async def test_without_its_dead_letters_a_batch_is_not_done(
    store: FakeStore, consumer: FakeConsumer, progress: ShippingProgress, waits: list[float]
) -> None:
    delivery = Delivery(store, consumer, RetrySettings(), progress, Troubles(Health()), outage_s=0.4)
    consumer.dead_letter_errors += [EventLogError("the log is away")] * 1_000
    good = event_of()
    with pytest.raises(EventLogError, match="the log is away"):
        await deliver(delivery, b"poison", good)
    assert store.bodies() == [good]
    assert (progress.dead_letters, progress.batches) == (0, 0)
    assert 1 < len(waits) < 100


async def test_letters_that_failed_while_documents_were_stored_are_written_afterwards(
    store: FakeStore, consumer: FakeConsumer, progress: ShippingProgress
) -> None:
    delivery = Delivery(store, consumer, RetrySettings(), progress, Troubles(Health()), outage_s=0.0)
    consumer.dead_letter_errors.append(EventLogError("the log is away"))
    await deliver(delivery, b"poison", event_of())
    assert len(store.bodies()) == len(consumer.dead_letters) == progress.dead_letters == 1


async def test_many_dead_letters_go_in_parts(
    delivery: Delivery, consumer: FakeConsumer, progress: ShippingProgress, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = []
    send_dead_letters = consumer.send_dead_letters

    async def note(letters: list[bytes]) -> None:
        parts.append(len(letters))
        await send_dead_letters(letters)

    monkeypatch.setattr(consumer, "send_dead_letters", note)
    await deliver(delivery, *[b"poison"] * 250)
    assert parts == [100, 100, 50]
    assert letters_of(consumer).keys() == set(range(250))
    assert progress.dead_letters == 250
