"""The store is away, or its replies are lost; each test ends with the exact set of documents."""

from collections.abc import Callable
from typing import Any

import anyio
import orjson
import pytest

from borgcore.settings.sections import EventsSettings

from .gateway import Answer, Forward, Gateway
from .looks import answers, at_least, has_said
from .shipping import OUTAGE_S, RECORDS, TEST_LIMIT_S, Elastic, Shipper, expect, make_events, send, unique, until

pytestmark = pytest.mark.timeout(TEST_LIMIT_S)
COUNT = 3_000
SMALL_BATCHES = {"BORG_LOGSHIPPER_BATCH__RECORDS": "200", "BORG_LOGSHIPPER_BATCH__LINGER_S": "0.05"}


async def test_everything_ships_when_nothing_fails(
    kafka: EventsSettings, elastic: Elastic, make_shipper: Callable[..., Shipper]
) -> None:
    events = make_events(COUNT, "calm")
    await send(kafka, "calm", events.values())
    shipper = make_shipper(kafka, elastic)
    shipper.start()
    await expect(elastic, events, shipper)


async def test_nothing_is_lost_while_elasticsearch_is_down(
    kafka: EventsSettings, elastic: Elastic, gateway: Gateway, make_shipper: Callable[..., Shipper]
) -> None:
    events = make_events(COUNT, "down")
    values = list(events.values())
    shipper = make_shipper(kafka, elastic, gateway.url, **SMALL_BATCHES)
    shipper.start()
    await send(kafka, "down", values[:1_000])
    await until(lambda: at_least(elastic, 1), "the first documents", shipper.log)
    await gateway.down()
    await send(kafka, "down", values[1_000:])
    await anyio.sleep(OUTAGE_S)
    await until(lambda: answers(shipper, "/readyz", 503), "it is not ready", shipper.log)
    assert (await shipper.page("/healthz"))[0] == 200
    await gateway.up()
    await expect(elastic, events, shipper)
    assert len(shipper.lines("store_busy")) == 1
    assert len(shipper.lines("store_regained")) == 1


async def test_an_elasticsearch_that_is_killed_and_started_again_loses_and_doubles_nothing(
    kafka: EventsSettings, private_elasticsearch: Any, make_shipper: Callable[..., Shipper]
) -> None:
    store = Elastic(f"http://{private_elasticsearch.address}", unique())
    events = make_events(RECORDS, "killed")
    values = list(events.values())
    shipper = make_shipper(kafka, store, **SMALL_BATCHES)
    shipper.start()
    await send(kafka, "killed", values[: RECORDS // 2])
    await until(lambda: at_least(store, 1), "the first documents", shipper.log)
    await anyio.to_thread.run_sync(private_elasticsearch.kill)
    await send(kafka, "killed", values[RECORDS // 2 :])
    await anyio.sleep(OUTAGE_S)
    await until(lambda: answers(shipper, "/readyz", 503), "it is not ready", shipper.log)
    assert (await shipper.page("/healthz"))[0] == 200
    await anyio.to_thread.run_sync(private_elasticsearch.start)
    await expect(store, events, shipper)
    assert len(shipper.lines("store_busy")) == len(shipper.lines("store_regained")) > 0


async def test_a_stop_in_the_middle_of_retries_ends_within_the_grace_and_loses_nothing(
    kafka: EventsSettings, elastic: Elastic, gateway: Gateway, make_shipper: Callable[..., Shipper]
) -> None:
    events = make_events(COUNT, "stop")
    shipper = make_shipper(kafka, elastic, gateway.url, **SMALL_BATCHES)
    shipper.start()
    await shipper.wait_ready()
    await gateway.down()
    await send(kafka, "stop", events.values())
    await until(lambda: has_said(shipper, "store_busy"), "the outage is noticed", shipper.log)
    assert await anyio.to_thread.run_sync(shipper.stop) == 0
    assert len(shipper.lines("records_left")) == 1
    await gateway.up()
    shipper.start()
    await expect(elastic, events, shipper)


async def test_a_reply_that_is_lost_after_it_was_applied_doubles_nothing(
    kafka: EventsSettings, elastic: Elastic, gateway: Gateway, make_shipper: Callable[..., Shipper]
) -> None:
    events = make_events(COUNT, "reply")
    foreign = [orjson.dumps({"@timestamp": "2026-11-22T10:00:00Z", "number": number}) for number in range(500)]

    async def lose_every_other(body: bytes, forward: Forward) -> Answer | None:
        answer = await forward(body)
        return None if gateway.bulks % 2 else answer

    gateway.fault = lose_every_other
    await send(kafka, "reply", events.values())
    await send(kafka, "reply", foreign, "memory_monitoring")
    shipper = make_shipper(kafka, elastic, gateway.url, **SMALL_BATCHES)
    shipper.start()

    async def numbers() -> list[int]:
        found = await elastic.documents("memory_monitoring")  # the shipper's own reports are among them
        return sorted(document["number"] for document in found.values() if "number" in document)

    async def all_there() -> bool:
        return len(await numbers()) >= len(foreign)

    await until(all_there, "foreign records", shipper.log)
    await expect(elastic, events, shipper)
    assert await numbers() == list(range(500))
