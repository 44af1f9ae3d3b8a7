import asyncio
import sys
from collections.abc import Iterable

import anyio
import pytest
from aiokafka.errors import (
    InvalidTimestampError,
    InvalidTopicError,
    KafkaConnectionError,
    MessageSizeTooLargeError,
    PolicyViolationError,
)

from borgcore.errors import EventLogError
from borgcore.eventlog.kafka import sender as kafka_sender
from borgcore.eventlog.kafka.limits import InvalidRecordError
from borgcore.eventlog.kafka.sender import KafkaSender
from borgcore.eventlog.protocol import EventsRefusedError, Outgoing
from borgcore.settings.sections import EventsSettings
from tests.limits import HANG_S

LARGE, AWAY, LIMIT_BYTES = b"too large", b"away", 5


class FakeProducer:
    """Takes a few turns of the loop for everything; what it is sent after its end is lost."""

    def __init__(self, **options: object) -> None:
        self.options = options
        self.taken: list[bytes] = []
        self.ended = False

    async def start(self) -> None:
        await anyio.sleep(0.01)

    async def send(self, topic: str, value: bytes, key: bytes) -> "asyncio.Future[object]":  # noqa: ARG002  # its signature
        await anyio.sleep(0.001)
        acknowledged = asyncio.get_running_loop().create_future()
        if self.ended:
            acknowledged.set_exception(ConnectionError("given up"))
        elif value == AWAY:
            acknowledged.set_exception(KafkaConnectionError("away"))
        elif value == LARGE:
            acknowledged.set_exception(MessageSizeTooLargeError())
        else:
            self.taken.append(value)
            acknowledged.set_result(None)
        return acknowledged


@pytest.fixture
def producers(monkeypatch: pytest.MonkeyPatch) -> list[FakeProducer]:
    """All that were made."""
    made: list[FakeProducer] = []

    def make(**options: object) -> FakeProducer:
        made.append(FakeProducer(**options))
        return made[-1]

    async def ensure_topics(settings: EventsSettings, topics: Iterable[str]) -> None:  # noqa: ARG001  # its signature
        await anyio.sleep(0.01)

    async def connect_options(settings: EventsSettings) -> dict[str, object]:  # noqa: ARG001  # its signature
        return {}

    async def close_producer(producer: FakeProducer) -> None:
        producer.ended = True

    async def read_limits(settings: EventsSettings, topics: Iterable[str]) -> dict[str, int]:  # noqa: ARG001  # its signature
        return dict.fromkeys(topics, LIMIT_BYTES)

    monkeypatch.setattr(kafka_sender, "read_limits", read_limits)
    monkeypatch.setattr(kafka_sender, "AIOKafkaProducer", make)
    monkeypatch.setattr(kafka_sender, "ensure_topics", ensure_topics)
    monkeypatch.setattr(kafka_sender, "connect_options", connect_options)
    monkeypatch.setattr(kafka_sender, "close_producer", close_producer)
    return made


def batch(value: bytes) -> list[Outgoing]:
    return [Outgoing("dead_letter", b"key", value)] * 3


async def test_calls_made_at_once_share_one_producer_which_is_closed_at_the_end(producers: list[FakeProducer]) -> None:
    sender = KafkaSender(EventsSettings(url="kafka://127.0.0.1:9"))
    with anyio.fail_after(HANG_S):
        async with anyio.create_task_group() as group:
            for value in (b"one", b"two", b"three"):
                group.start_soon(sender.send, batch(value))
        await sender.close()
    assert [(len(producer.taken), producer.ended) for producer in producers] == [(9, True)]


async def test_a_call_that_is_refused_takes_the_producer_from_no_other(producers: list[FakeProducer]) -> None:
    sender = KafkaSender(EventsSettings(url="kafka://127.0.0.1:9"))
    refused: list[EventsRefusedError] = []

    async def send_large() -> None:
        try:
            await sender.send(batch(LARGE))
        except EventsRefusedError as error:
            refused.append(error)

    with anyio.fail_after(HANG_S):
        async with anyio.create_task_group() as group:
            group.start_soon(sender.send, batch(b"before"))
            group.start_soon(send_large)
            group.start_soon(sender.send, batch(b"after"))
        await sender.close()
    [error] = refused
    assert [refusal.limit_bytes for refusal in error.refusals.values()] == [LIMIT_BYTES] * 3
    assert "MessageSizeTooLarge" in str(error)
    assert [producer.taken for producer in producers] == [[b"before"] * 3, [], [b"after"] * 3]
    assert all(producer.ended for producer in producers)


async def test_events_of_a_refused_batch_are_sent_each_in_a_batch_of_its_own(producers: list[FakeProducer]) -> None:
    sender = KafkaSender(EventsSettings(url="kafka://127.0.0.1:9"))
    with anyio.fail_after(HANG_S), pytest.raises(EventsRefusedError) as caught:
        await sender.send([*batch(b"before"), *batch(LARGE)[:1], *batch(b"after")])
    assert list(caught.value.refusals) == [3]
    assert [producer.options["enable_idempotence"] for producer in producers] == [True, False]
    assert producers[1].options["max_batch_size"] == 1
    await sender.send(batch(b"next"))
    assert producers[2].options["max_batch_size"] == LIMIT_BYTES
    await sender.close()


async def test_an_outage_while_events_are_sent_alone_is_no_refusal(producers: list[FakeProducer]) -> None:
    sender = KafkaSender(EventsSettings(url="kafka://127.0.0.1:9"))
    with anyio.fail_after(HANG_S):
        with pytest.raises(EventLogError, match="cannot be reached") as caught:
            await sender.send([*batch(LARGE), *batch(AWAY)])
        await sender.close()
    assert not isinstance(caught.value, EventsRefusedError)
    assert len(producers) == 2
    assert all(producer.ended for producer in producers)


@pytest.mark.parametrize(
    "refusal", [InvalidRecordError, InvalidTimestampError, InvalidTopicError, PolicyViolationError]
)
async def test_every_refusal_of_a_record_costs_that_record_alone(
    producers: list[FakeProducer], monkeypatch: pytest.MonkeyPatch, refusal: type[Exception]
) -> None:
    monkeypatch.setattr(sys.modules[__name__], "MessageSizeTooLargeError", refusal)
    sender = KafkaSender(EventsSettings(url="kafka://127.0.0.1:9"))
    with anyio.fail_after(HANG_S), pytest.raises(EventsRefusedError) as caught:
        await sender.send([*batch(b"before"), *batch(LARGE)[:1]])
    await sender.close()
    assert list(caught.value.refusals) == [3]
    assert refusal.__name__ in caught.value.refusals[3].reason
    assert caught.value.refusals[3].limit_bytes is None
    assert len(producers) == 2
