"""What the log does to a shipper: members come and go, a broker dies, a topic is made anew, records are none."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from anyio import to_thread

from borgcore.events.topics import DEAD_LETTER
from borgcore.settings.sections import EventsSettings
from tests.integration.eventlog.kafka_log import replace_topic
from tests.valkey import ValkeyServer

from .looks import answers, at_least, has_said, has_shipped, is_unready
from .shipping import RECORDS, TEST_LIMIT_S, Elastic, Shipper, Sqlite, expect, make_events, send, unique, until

pytestmark = pytest.mark.timeout(TEST_LIMIT_S)
SMALL_BATCHES = {"BORG_LOGSHIPPER_BATCH__RECORDS": "100", "BORG_LOGSHIPPER_BATCH__LINGER_S": "0.05"}


async def test_a_second_shipper_that_joins_and_leaves_loses_and_doubles_nothing(
    kafka: EventsSettings, elastic: Elastic, make_shipper: Callable[..., Shipper]
) -> None:
    events = make_events(RECORDS, "members")
    values = list(events.values())
    one, two = (make_shipper(kafka, elastic, name=name, **SMALL_BATCHES) for name in ("one", "two"))
    one.start()
    await send(kafka, "members", values[: RECORDS // 4])
    two.start()
    await two.wait_ready()
    await send(kafka, "members", values[RECORDS // 4 : RECORDS // 2])
    await until(lambda: has_shipped(two), "the second one ships, too", two.log)
    await send(kafka, "members", values[RECORDS // 2 :])
    assert await to_thread.run_sync(two.stop) == 0
    await expect(elastic, events, one)


async def test_a_broker_that_is_killed_and_started_again_loses_and_doubles_nothing(
    private_kafka: Any, elastic: Elastic, make_shipper: Callable[..., Shipper]
) -> None:
    log = EventsSettings(url=f"kafka://{private_kafka.address}", prefix=elastic.prefix)
    events = make_events(6_000, "broker")
    values = list(events.values())
    shipper = make_shipper(log, elastic, **SMALL_BATCHES)
    shipper.start()
    await send(log, "broker", values[:3_000])
    await until(lambda: has_shipped(shipper), "it ships", shipper.log)
    await to_thread.run_sync(private_kafka.kill)
    why = f"Kafka at {private_kafka.address} cannot be reached"
    await until(lambda: is_unready(shipper, why), "it is not ready and says why", shipper.log)
    assert await answers(shipper, "/healthz", 200)
    await to_thread.run_sync(private_kafka.start)
    await send(log, "broker", values[3_000:])
    await until(lambda: answers(shipper, "/readyz", 200), "it is ready again", shipper.log)
    await expect(elastic, events, shipper)
    assert len([line for line in shipper.lines("event_log_lost") if "consequence" in line]) == 1


@pytest.mark.parametrize("commit_period_s", ["1", "600"])
async def test_a_stop_while_the_broker_is_dead_ends_within_the_grace_and_loses_and_doubles_nothing(
    private_kafka: Any, elastic: Elastic, make_shipper: Callable[..., Shipper], commit_period_s: str
) -> None:
    log = EventsSettings(url=f"kafka://{private_kafka.address}", prefix=elastic.prefix)
    events = make_events(6_000, "stop")
    shipper = make_shipper(log, elastic, **SMALL_BATCHES, BORG_LOGSHIPPER_COMMIT_PERIOD_S=commit_period_s)
    shipper.start()
    await send(log, "stop", events.values())
    await until(lambda: has_shipped(shipper), "it ships", shipper.log)
    await to_thread.run_sync(private_kafka.kill)
    await until(lambda: has_said(shipper, "event_log_lost"), "the outage is noticed", shipper.log)
    assert await to_thread.run_sync(shipper.stop) == 0
    await to_thread.run_sync(private_kafka.start)
    shipper.start()
    await shipper.wait_ready()
    await expect(elastic, events, shipper)


async def test_a_valkey_that_is_killed_and_started_again_loses_and_doubles_nothing(
    start_valkey: Callable[..., ValkeyServer],
    short_folder: Path,
    tmp_path: Path,
    make_shipper: Callable[..., Shipper],
) -> None:
    valkey = start_valkey(short_folder / "s", appendonly="yes", appendfsync="always")
    log, run, store = (
        EventsSettings(url=f"unix://{short_folder / 's'}"),
        unique() + "run",
        Sqlite(tmp_path / "events.sqlite"),
    )
    events = make_events(6_000, run)
    values = list(events.values())
    shipper = make_shipper(log, store.path, **SMALL_BATCHES, BORG_RUN=run)
    shipper.start()
    await send(log, run, values[:3_000])
    await until(lambda: has_shipped(shipper), "it ships", shipper.log)
    await to_thread.run_sync(valkey.terminate)
    await until(lambda: is_unready(shipper, "Redis at "), "it is not ready and says why", shipper.log)
    assert await answers(shipper, "/healthz", 200)
    await to_thread.run_sync(valkey.start)
    await send(log, run, values[3_000:])
    await until(lambda: answers(shipper, "/readyz", 200), "it is ready again", shipper.log)
    await expect(store, events, shipper)


async def test_a_topic_that_is_deleted_and_made_anew_loses_no_record_of_the_new_one(
    kafka: EventsSettings, elastic: Elastic, make_shipper: Callable[..., Shipper]
) -> None:
    old, new = make_events(2_000, "old"), make_events(3_000, "new")
    foreign = {era: [orjson.dumps({"era": era, "number": n}) for n in range(300)] for era in ("old", "new")}
    shipper = make_shipper(kafka, elastic, **SMALL_BATCHES)
    shipper.start()
    await send(kafka, "old", old.values())
    await send(kafka, "old", foreign["old"])
    await until(lambda: at_least(elastic, 2_300), "the old topic's documents", shipper.log)
    await replace_topic(kafka)
    await send(kafka, "new", new.values())
    await send(kafka, "new", foreign["new"])
    await until(lambda: at_least(elastic, 5_600), "all documents of both topics", shipper.log)
    assert await to_thread.run_sync(shipper.stop) == 0
    found = await elastic.documents()
    assert len(found) == 5_600
    assert {name for name, document in found.items() if "era" not in document} == old.keys() | new.keys()
    numbers = {era: sorted(d["number"] for d in found.values() if d.get("era") == era) for era in ("old", "new")}
    assert numbers == {"old": list(range(300)), "new": list(range(300))}


async def test_poison_records_become_dead_letters_and_hold_nothing_up(
    kafka: EventsSettings, elastic: Elastic, make_shipper: Callable[..., Shipper]
) -> None:
    events = make_events(500, "poison")
    poison = [
        b"not json at all",
        b'{"cut": "off',
        b'{"loss": NaN}',
        b"null",
        b"[1, 2]",
        b'{"a":' * 900 + b"1" + b"}" * 900,
        b'{"big": "' + b"x" * 50_000 + b'"}',
        b'{"@timestamp": "0001-01-01T00:00:00Z"}',
        b'{"loss": "high"}',
        b"\xff\xfe\x00",
    ]
    mixed = list(events.values())
    for place, value in enumerate(poison):
        mixed.insert(place * 40, value)
    await send(kafka, "poison", mixed)
    shipper = make_shipper(kafka, elastic, BORG_LOGSHIPPER_MAX_DOCUMENT_BYTES="20000")
    shipper.start()
    await expect(elastic, events, shipper)
    letters = await _dead_letters(kafka, len(poison))
    texts = {letter["value"] for letter in letters if "value" in letter}
    assert texts == {value.decode() for value in poison[:-1]}
    assert [letter["value_base64"] for letter in letters if "value" not in letter] == ["//4A"]
    assert all(letter["topic"] == "training_log" and letter["reason"] for letter in letters)
    assert len({(letter["partition"], letter["position"]) for letter in letters}) == len(letters) == len(poison)


async def _dead_letters(kafka: EventsSettings, count: int) -> list[dict[str, Any]]:
    topic = f"{kafka.prefix}{DEAD_LETTER}"
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka.url.removeprefix("kafka://"), auto_offset_reset="earliest")
    await consumer.start()
    try:
        found: list[dict[str, Any]] = []
        parts = [TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic) or range(3)]
        consumer.assign(parts)

        async def enough() -> bool:
            for records in (await consumer.getmany(timeout_ms=500)).values():
                found.extend(orjson.loads(record.value) for record in records)
            return len(found) >= count

        await until(enough, f"{count} dead letters")
        return found
    finally:
        await consumer.stop()
