"""Events that a real Kafka can never take: they are dropped and named, and all others arrive."""

import random
from collections.abc import Callable, Mapping
from typing import Any

import anyio
import orjson
import pytest
from aiokafka.admin import NewTopic
from structlog.testing import capture_logs

from borgcore.eventlog.kafka import limits
from borgcore.eventlog.kafka.client import open_admin
from borgcore.eventlog.kafka.sender import open_kafka_sender
from borgcore.eventlog.protocol import EventsRefusedError, Outgoing
from borgcore.eventlog.publisher import Publisher, open_publisher
from borgcore.events.topics import DEAD_LETTER, TOPICS
from borgcore.events.training import RunEnded
from borgcore.settings.sections import EventsSettings
from tests.limits import HANG_S

from .kafka_log import Reader, events, join

LIMIT_BYTES = 1_500


async def make_topics(settings: EventsSettings, configs: Mapping[str, Mapping[str, str]], partitions: int = 1) -> None:
    new = [
        NewTopic(settings.prefix + topic, partitions, 1, topic_configs=configs.get(topic, {}))
        for topic in (*TOPICS, DEAD_LETTER)
    ]
    async with open_admin(settings) as admin:
        await admin.create_topics(new)


def noise(size_bytes: int, seed: int = 1) -> str:
    """Text that no compression makes shorter than half."""
    return random.Random(seed).randbytes(size_bytes // 2).hex()  # no secret


def ended(number: int, text: str = "asked") -> RunEnded:
    return RunEnded(agent=1, pid=1, steps=number, episodes=0, duration_s=1.0, reason=text)


async def until(holds: Callable[[], bool]) -> None:
    with anyio.fail_after(HANG_S):
        while not holds():  # noqa: ASYNC110  # a publisher's state has no event
            await anyio.sleep(0.01)


async def publish(settings: EventsSettings, *published: RunEnded) -> tuple[Publisher, list[Any]]:
    with capture_logs() as logs:
        async with open_publisher(settings, "pong", "agent") as publisher:
            for event in published:
                publisher.publish(event)
            await until(lambda: not publisher.pending)
    return publisher, [dict(line) for line in logs]


@pytest.mark.parametrize("partitions", [1, 3])
async def test_one_event_over_the_topics_limit_is_dropped_and_named_and_all_others_arrive_in_order(
    kafka: EventsSettings, partitions: int
) -> None:
    await make_topics(kafka, {"training_log": {"max.message.bytes": str(LIMIT_BYTES)}}, partitions)
    small = [ended(number) for number in range(25)]
    publisher, logs = await publish(
        kafka, *small[:12], ended(-1, noise(8_000)), *small[12:], ended(-2, noise(9_000, 2))
    )
    assert publisher.dropped == 2
    assert publisher.published == 26  # and the report
    refused = [line for line in logs if line["event"] == "event_refused"]
    assert [(line["name"], line["topic"], line["limit_bytes"]) for line in refused] == [
        ("run_ended", "training_log", LIMIT_BYTES)
    ] * 2
    assert all(line["size_bytes"] > 8_000 and len(line["event_id"]) == 36 for line in refused)
    assert "MessageSizeTooLargeError" in refused[0]["reason"]
    assert f"it takes at most {LIMIT_BYTES} (max.message.bytes)" in refused[0]["reason"]
    assert [line["event"] for line in logs if line["event"] != "event_refused"] == []
    async with join(kafka) as consumer:
        found = [orjson.loads(value or b"") for value in await Reader(consumer).read(26)]
    assert [event["steps"] for event in found if event["event"] == "run_ended"] == list(range(25))
    [report] = [event for event in found if event["event"] == "events_dropped"]
    assert (report["dropped"], report["reason"], report["dropped_topic"]) == (2, "refused", "training_log")
    assert report["dropped_event"] == "run_ended"
    assert refused[0]["event_id"] in report["first_refused"]


async def test_a_refused_report_of_refused_events_is_counted_and_not_reported_again(kafka: EventsSettings) -> None:
    tiny = {"max.message.bytes": "100"}
    await make_topics(kafka, {"training_log": tiny, "memory_monitoring": tiny})
    publisher, logs = await publish(kafka, ended(1), ended(2))
    assert (publisher.published, publisher.dropped) == (0, 3)
    assert [line["name"] for line in logs] == ["run_ended", "run_ended", "events_dropped"]


async def test_events_too_many_for_one_batch_all_arrive_even_where_the_limit_is_unknown(
    kafka: EventsSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def read_nothing(*_: object) -> dict[str, int]:
        return {}

    monkeypatch.setattr("borgcore.eventlog.kafka.sender.read_limits", read_nothing)
    await make_topics(kafka, {"training_log": {"max.message.bytes": str(LIMIT_BYTES)}})
    batch = [Outgoing("training_log", b"k", noise(500, seed).encode()) for seed in range(40)]
    large = Outgoing("training_log", b"k", noise(9_000).encode())
    async with open_kafka_sender(kafka) as sender:
        with anyio.fail_after(HANG_S):
            await sender.send(batch)
            with pytest.raises(EventsRefusedError) as caught:
                await sender.send([*batch, large])
            await sender.send(batch)
    assert list(caught.value.refusals) == [40]
    assert caught.value.refusals[40].limit_bytes is None
    assert "more than it takes" in str(caught.value)
    async with join(kafka, ["training_log"]) as consumer:
        assert await Reader(consumer).read(120) == [event.value for event in batch] * 3


async def test_what_can_never_be_sent_costs_no_other_event(kafka: EventsSettings) -> None:
    await make_topics(kafka, {})
    good = events(6, keys=1)
    giant = Outgoing("training_log", b"k", b"x" * (limits.REQUEST_BYTES + 1))
    nameless = Outgoing("no topic!", b"k", b"{}")
    async with open_kafka_sender(kafka) as sender:
        with anyio.fail_after(HANG_S):
            with pytest.raises(EventsRefusedError) as caught:
                await sender.send([*good[:3], giant, nameless, *good[3:]])
            await sender.send(events(1, "after"))
    assert {row: refusal.limit_bytes for row, refusal in caught.value.refusals.items()} == {
        3: limits.REQUEST_BYTES,
        4: None,
    }
    assert f"'{kafka.prefix}no topic!' is no name that a Kafka topic can have" in caught.value.refusals[4].reason
    async with join(kafka, ["training_log"]) as consumer:
        assert await Reader(consumer).read(7) == [event.value for event in [*good, *events(1, "after")]]


async def test_one_bad_record_of_a_batch_is_refused_by_name(kafka: EventsSettings) -> None:
    await make_topics(kafka, {"training_log": {"cleanup.policy": "compact"}})
    good = events(6, keys=1)
    keyless = Outgoing("training_log", None, b"{}")  # type: ignore[arg-type]  # a compacted topic needs a key
    async with open_kafka_sender(kafka) as sender:
        with anyio.fail_after(HANG_S), pytest.raises(EventsRefusedError) as caught:
            await sender.send([*good[:3], keyless, *good[3:]])
    assert list(caught.value.refusals) == [3]
    assert f"the topic {kafka.prefix}training_log refused it: [Error 87] InvalidRecord" in str(caught.value)
    async with join(kafka, ["training_log"]) as consumer:
        assert await Reader(consumer).read(6) == [event.value for event in good]
