"""The store refuses documents, requests, or us; each test ends with the exact set of documents."""

from collections.abc import Callable
from typing import Any

import anyio
import orjson
import pytest

from borgcore.settings.sections import EventsSettings

from .gateway import Answer, Forward, Gateway, without_items
from .looks import answers, at_least, counts, is_unhealthy
from .shipping import TEST_LIMIT_S, Elastic, Shipper, expect, make_events, send, until

pytestmark = pytest.mark.timeout(TEST_LIMIT_S)
COUNT = 3_000
SMALL_BATCHES = {"BORG_LOGSHIPPER_BATCH__RECORDS": "200", "BORG_LOGSHIPPER_BATCH__LINGER_S": "0.05"}


async def test_each_item_of_a_mixed_answer_gets_what_it_needs(
    kafka: EventsSettings, elastic: Elastic, gateway: Gateway, make_shipper: Callable[..., Shipper]
) -> None:
    events = make_events(COUNT, "mixed")
    bad = {name: _with(value, epsilon="high") for name, value in list(events.items())[::100]}  # 400 by the mapping
    repeated = list(events)[50::100]  # 409: each of them comes twice
    busy: set[str] = set(list(events)[7::10])  # 429, once each
    replies: list[set[int]] = []

    async def some_are_busy(body: bytes, forward: Forward) -> Answer:
        rest, taken = without_items(body, busy.__contains__)
        status, reply = await forward(rest) if rest else (200, b'{"errors":false,"items":[]}')
        items = iter(orjson.loads(reply)["items"])
        error = {"type": "es_rejected_execution_exception", "reason": "queue full"}
        mixed: list[Any] = [
            next(items) if name is None else {"create": {"status": 429, "error": error}} for name in taken
        ]
        busy.difference_update(name for name in taken if name is not None)
        replies.append({item["create"]["status"] for item in mixed})
        return status, orjson.dumps({"took": 1, "errors": True, "items": mixed})

    gateway.fault = some_are_busy
    values = [value for name, value in (events | bad).items() for _ in range(1 + (name in repeated))]
    await send(kafka, "mixed", values)
    shipper = make_shipper(kafka, elastic, gateway.url, BORG_LOGSHIPPER_BATCH__RECORDS="1000")
    shipper.start()
    await until(lambda: counts(shipper, "dead_letters", len(bad)), "all refused ones are dead letters", shipper.log)
    await until(lambda: counts(shipper, "repeated_documents", len(repeated)), "repeated ones are counted", shipper.log)
    await until(lambda: counts(shipper, "retried_documents", 300), "busy ones are sent again, once", shipper.log)
    await expect(elastic, {name: value for name, value in events.items() if name not in bad}, shipper)
    assert {201, 400, 409, 429} in replies
    assert not busy


async def test_a_request_that_is_too_large_is_sent_in_parts_and_a_giant_becomes_a_dead_letter(
    kafka: EventsSettings, elastic: Elastic, gateway: Gateway, make_shipper: Callable[..., Shipper]
) -> None:
    events = make_events(COUNT, "large")
    giant = next(iter(events))
    values = events | {giant: _with(events[giant], note="x" * 60_000)}

    async def refuse_large(body: bytes, forward: Forward) -> Answer:
        return (413, b"too large") if len(body) > 50_000 else await forward(body)

    gateway.fault = refuse_large
    await send(kafka, "large", values.values())
    shipper = make_shipper(kafka, elastic, gateway.url)
    shipper.start()
    await until(lambda: counts(shipper, "dead_letters", 1), "the giant is a dead letter", shipper.log)
    await expect(elastic, {name: value for name, value in events.items() if name != giant}, shipper)


async def test_a_proxy_that_refuses_everything_holds_everything_and_buries_nothing(
    kafka: EventsSettings, elastic: Elastic, gateway: Gateway, make_shipper: Callable[..., Shipper]
) -> None:
    events = make_events(COUNT, "proxy")

    async def refuse(_body: bytes, _forward: Forward) -> Answer:
        return 400, b"<html>400 The plain HTTP request was sent to HTTPS port</html>"

    gateway.fault = refuse
    await send(kafka, "proxy", events.values())
    shipper = make_shipper(kafka, elastic, gateway.url)
    shipper.start()
    await until(lambda: is_unhealthy(shipper, "400"), "it is unhealthy and says why", shipper.log)
    gateway.fault = None
    await expect(elastic, events, shipper)
    assert shipper.lines("records_refused") == []


async def test_a_server_that_refuses_every_request_holds_everything_and_buries_nothing(
    kafka: EventsSettings, elastic: Elastic, gateway: Gateway, make_shipper: Callable[..., Shipper]
) -> None:
    events = make_events(COUNT, "refuses")

    async def refuse(_body: bytes, _forward: Forward) -> Answer:  # rest.action.multi.allow_explicit_index: false
        return 400, _refusal("illegal_argument_exception", "explicit index in bulk is not allowed")

    gateway.fault = refuse
    await send(kafka, "refuses", events.values())
    shipper = make_shipper(kafka, elastic, gateway.url, **SMALL_BATCHES)
    shipper.start()
    await until(lambda: is_unhealthy(shipper, "explicit index"), "it is unhealthy and says why", shipper.log)
    before, began_s = gateway.bulks, anyio.current_time()
    await anyio.sleep(3.0)
    took_s = anyio.current_time() - began_s
    assert gateway.bulks - before < 20 * took_s  # three batches, about one try of two requests a second each
    gateway.fault = None
    await expect(elastic, events, shipper)
    assert shipper.lines("records_refused") == []


async def test_documents_that_break_whole_requests_are_found_and_become_dead_letters(
    kafka: EventsSettings, elastic: Elastic, gateway: Gateway, make_shipper: Callable[..., Shipper]
) -> None:
    events = make_events(COUNT, "breaks")
    bad = list(events)[::700]

    async def break_at(body: bytes, forward: Forward) -> Answer:
        broken = any(name.encode() in body for name in bad)
        return (400, _refusal("some_exception", "it cannot be read")) if broken else await forward(body)

    gateway.fault = break_at
    await send(kafka, "breaks", events.values())
    shipper = make_shipper(kafka, elastic, gateway.url)
    shipper.start()
    await until(lambda: counts(shipper, "dead_letters", len(bad)), "those to blame are dead letters", shipper.log)
    await expect(elastic, {name: value for name, value in events.items() if name not in bad}, shipper)


async def test_refused_credentials_hold_everything_until_they_are_mended(
    kafka: EventsSettings, elastic: Elastic, gateway: Gateway, make_shipper: Callable[..., Shipper]
) -> None:
    events = make_events(COUNT, "login")
    shipper = make_shipper(kafka, elastic, gateway.url, **SMALL_BATCHES)
    shipper.start()
    await shipper.wait_ready()
    gateway.refuse = 401
    await send(kafka, "login", events.values())
    await until(lambda: is_unhealthy(shipper, "401"), "it is unhealthy and says why", shipper.log)
    before, began_s = gateway.requests_refused, anyio.current_time()
    await anyio.sleep(3.0)
    took_s = anyio.current_time() - began_s
    assert gateway.requests_refused - before < 10 * took_s  # three batches, about one try a second each
    gateway.refuse = None
    await until(lambda: answers(shipper, "/healthz", 200), "it is healthy again", shipper.log)
    await expect(elastic, events, shipper)
    assert len(shipper.lines("store_held")) == 1


async def test_a_read_only_index_holds_what_is_for_it_and_is_named(
    kafka: EventsSettings, elastic: Elastic, make_shipper: Callable[..., Shipper]
) -> None:
    events = make_events(COUNT, "readonly")
    values = list(events.values())
    shipper = make_shipper(kafka, elastic, **SMALL_BATCHES)
    shipper.start()
    await send(kafka, "readonly", values[:100])
    await until(lambda: at_least(elastic, 100), "the index is there", shipper.log)
    index = f"{elastic.prefix}training_log-*"
    await elastic.call("PUT", f"{index}/_settings", {"index.blocks.write": True})
    await send(kafka, "readonly", values[100:])
    await until(
        lambda: is_unhealthy(shipper, f"{elastic.prefix}training_log-"), "unhealthy, the index named", shipper.log
    )
    assert await elastic.count() == 100
    await elastic.call("PUT", f"{index}/_settings", {"index.blocks.write": None})
    await expect(elastic, events, shipper)


def _refusal(kind: str, reason: str) -> bytes:
    return orjson.dumps({"error": {"type": kind, "reason": reason}, "status": 400})


def _with(value: bytes, **fields: Any) -> bytes:
    return orjson.dumps(orjson.loads(value) | fields)
