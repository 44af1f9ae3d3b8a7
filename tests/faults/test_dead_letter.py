"""The topic dead_letter refuses letters: nothing else waits for that, and health names the record."""

import random
from collections.abc import Callable

import orjson
import pytest
from aiokafka.admin import NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from borgcore.eventlog.kafka.client import open_admin
from borgcore.eventlog.kafka.consumer import open_kafka_consumer
from borgcore.events.topics import DEAD_LETTER
from borgcore.settings.sections import EventsSettings

from .looks import answers, counts, is_unhealthy
from .shipping import TEST_LIMIT_S, Elastic, Shipper, expect, make_events, send, until

pytestmark = pytest.mark.timeout(TEST_LIMIT_S)
COUNT = 500
TOO_SMALL, SMALL = 100, 1_500  # bytes: less than any letter, and less than one with 1,000 bytes of noise


async def set_limit(settings: EventsSettings, size_bytes: int) -> None:
    name = settings.prefix + DEAD_LETTER
    configs = {"max.message.bytes": str(size_bytes)}
    async with open_admin(settings) as admin:
        if name in await admin.list_topics():
            await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, name, configs)])
        else:
            await admin.create_topics([NewTopic(name, 1, 1, topic_configs=configs)])


async def letters_of(settings: EventsSettings, count: int) -> list[dict[str, object]]:
    async def ignore(_: object) -> None:
        pass

    found: list[dict[str, object]] = []
    group = f"{settings.prefix}letters"
    async with open_kafka_consumer(settings, [DEAD_LETTER], group=group, member="m", revoked=ignore) as consumer:
        while len(found) < count:
            for chunk in await consumer.fetch(100, 0.2):
                found += [orjson.loads(value or b"") for value in chunk.values]
    return found


async def test_good_records_are_stored_and_health_names_the_record_until_the_topic_is_mended(
    kafka: EventsSettings, elastic: Elastic, make_shipper: Callable[..., Shipper]
) -> None:
    await set_limit(kafka, TOO_SMALL)
    events = make_events(COUNT, "letters")
    values = list(events.values())
    await send(kafka, "letters", [*values[:250], b"poison", *values[250:]])
    shipper = make_shipper(kafka, elastic)
    shipper.start()
    await until(lambda: counts(shipper, "documents", COUNT), "the good records are stored", shipper.log)
    await until(
        lambda: is_unhealthy(shipper, f"dead_letter: the topic {kafka.prefix}dead_letter"), "health", shipper.log
    )
    _, text = await shipper.page("/healthz")
    assert "MessageSizeTooLargeError" in text
    assert f"it takes at most {TOO_SMALL} (max.message.bytes)" in text
    assert "the letter about the record training_log-" in text
    assert "it is not JSON" in text
    assert await counts(shipper, "dead_letters", 0)
    await set_limit(kafka, 1_000_000)
    await until(lambda: counts(shipper, "dead_letters", 1), "the letter is written", shipper.log)
    await until(lambda: answers(shipper, "/healthz", 200), "it is healthy again", shipper.log)
    await expect(elastic, events, shipper)
    [letter] = await letters_of(kafka, 1)
    assert letter["value"] == "poison"


async def test_a_letter_too_long_for_its_topic_is_shortened(
    kafka: EventsSettings, elastic: Elastic, make_shipper: Callable[..., Shipper]
) -> None:
    await set_limit(kafka, SMALL)
    events = make_events(COUNT, "letters")
    poison = random.Random(1).randbytes(40_000).hex().encode()
    await send(kafka, "letters", [poison, *events.values()])
    shipper = make_shipper(kafka, elastic)
    shipper.start()
    await until(lambda: counts(shipper, "dead_letters", 1), "the letter is written", shipper.log)
    await expect(elastic, events, shipper)
    [letter] = await letters_of(kafka, 1)
    assert letter["truncated"] is True
    assert letter["size_bytes"] == len(poison)
    assert letter["value"] == poison[:1_000].decode()
