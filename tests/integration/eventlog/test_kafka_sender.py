"""Sending to a real Kafka: order, topics, credentials."""

import socket
from collections import defaultdict

import anyio
import orjson
import pytest
from pydantic import SecretStr

from borgcore.errors import EventLogError
from borgcore.eventlog.kafka.check import check_kafka
from borgcore.eventlog.kafka.client import open_admin
from borgcore.eventlog.kafka.sender import open_kafka_sender
from borgcore.eventlog.open import open_consumer, open_sender
from borgcore.eventlog.protocol import Outgoing
from borgcore.events.topics import DEAD_LETTER, TOPICS
from borgcore.settings.sections import EventsSettings, SaslMechanism
from tests.limits import HANG_S

from .kafka_log import Reader, events, ignore, join


async def test_events_come_out_as_they_went_in_and_those_of_one_key_in_order(kafka: EventsSettings) -> None:
    sent = events(2_000, keys=17)
    async with (
        open_sender(kafka, "run") as sender,
        open_consumer(kafka, "run", TOPICS, group="g" + kafka.prefix, member="one", revoked=ignore) as consumer,
    ):
        for start in range(0, len(sent), 500):
            with anyio.fail_after(HANG_S):
                await sender.send(sent[start : start + 500])
        reader = Reader(consumer)
        await reader.read(len(sent))
        assert await sender.report_trimmed(lambda *_: sent[0]) == {}
    by_key = defaultdict(list)
    for value in reader.values:
        assert value is not None
        by_key[value.split()[1]].append(value)
    assert sorted(by_key.values()) == sorted(
        [event.value for event in sent if event.value.split()[1] == key] for key in by_key
    )
    assert {partition.topic for partition in reader.upto} == {"training_log"}
    assert len(reader.upto) == 3


async def test_missing_topics_are_created_with_the_partitions_wanted_and_existing_ones_are_left_alone(
    kafka: EventsSettings,
) -> None:
    async with open_kafka_sender(kafka.model_copy(update={"partitions": 5})) as sender:
        with anyio.fail_after(HANG_S):
            await sender.send(events(1))
    async with open_kafka_sender(kafka.model_copy(update={"partitions": 2})) as sender:
        with anyio.fail_after(HANG_S):
            await sender.send(events(1))
    async with open_admin(kafka) as admin:
        found = await admin.describe_topics([kafka.prefix + topic for topic in (*TOPICS, DEAD_LETTER)])
    assert [len(topic["partitions"]) for topic in found] == [5, 5, 5]


async def test_a_topic_that_kafka_does_not_let_us_create_is_named_with_kafkas_reason(kafka: EventsSettings) -> None:
    async with open_kafka_sender(kafka.model_copy(update={"replication": 7})) as sender:
        with anyio.fail_after(HANG_S), pytest.raises(EventLogError) as caught:
            await sender.send(events(1))
    assert str(caught.value).startswith(
        f"{kafka.url.replace('kafka://', 'Kafka at ')} does not let us create the topic"
    )
    assert f"{kafka.prefix}dead_letter, which is missing: InvalidReplicationFactorError" in str(caught.value)
    assert str(caught.value).endswith(
        f"; create it with {kafka.partitions} partitions; nothing is published or read until it exists"
    )


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
async def test_a_user_is_known_by_every_mechanism(
    kafka: EventsSettings, kafka_sasl: tuple[str, str, SecretStr], mechanism: SaslMechanism
) -> None:
    address, user, password = kafka_sasl
    login = {"url": f"kafka://{address}", "user": user, "password": password, "sasl": mechanism}
    settings = kafka.model_copy(update=login)
    with anyio.fail_after(HANG_S):
        assert (await check_kafka(settings, "group")).startswith(f"Kafka at {address}, 1 broker, version ")
        async with (
            open_kafka_sender(settings) as sender,
            join(settings) as consumer,
        ):
            await sender.send(events(3, keys=1))
            assert await Reader(consumer).read(3) == [event.value for event in events(3, keys=1)]


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-512"])
async def test_a_wrong_password_is_reported_without_it(
    kafka_sasl: tuple[str, str, SecretStr], mechanism: SaslMechanism
) -> None:
    address, user, _ = kafka_sasl
    login = {"user": user, "password": SecretStr("not-the-secret"), "sasl": mechanism}
    settings = EventsSettings.model_validate({"url": f"kafka://{address}", **login})
    expected = f"Kafka at {address} refused the user or the password; check BORG_EVENTS_USER and BORG_EVENTS_PASSWORD"
    with anyio.fail_after(HANG_S):
        with pytest.raises(EventLogError) as caught:
            await check_kafka(settings, None)
        assert str(caught.value) == expected
        async with open_kafka_sender(settings) as sender:
            with pytest.raises(EventLogError) as caught:
                await sender.send(events(1))
        assert str(caught.value) == expected
        with pytest.raises(EventLogError) as caught:
            async with join(settings):
                pass
        assert str(caught.value) == expected


async def test_a_port_of_another_protocol_is_reported(kafka_sasl: tuple[str, str, SecretStr]) -> None:
    settings = EventsSettings(url=f"kafka://{kafka_sasl[0]}", timeout_s=2.0)  # SASL is expected there
    with anyio.fail_after(HANG_S), pytest.raises(EventLogError, match=f"Kafka at {kafka_sasl[0]} cannot be reached: "):
        await check_kafka(settings, None)


async def test_an_absent_kafka_is_reported_in_time(unused_port: int) -> None:
    settings = EventsSettings(url=f"kafka://127.0.0.1:{unused_port}", timeout_s=1.0)
    with anyio.fail_after(HANG_S):
        async with open_kafka_sender(settings) as sender:
            with pytest.raises(EventLogError, match=f"Kafka at 127.0.0.1:{unused_port} cannot be reached: "):
                await sender.send(events(1))
        with pytest.raises(EventLogError, match="cannot be reached"):
            async with join(settings):
                pass


async def test_a_kafka_that_never_answers_is_reported_in_time() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        settings = EventsSettings(url=f"kafka://127.0.0.1:{silent.getsockname()[1]}", timeout_s=0.5)
        async with open_kafka_sender(settings) as sender:
            with anyio.fail_after(HANG_S), pytest.raises(EventLogError, match="gave no answer in time"):
                await sender.send(events(1))


async def test_a_dead_letter_too_large_for_kafka_is_reported_and_the_next_one_sent(kafka: EventsSettings) -> None:
    noise = orjson.dumps([n * 7919 % 1_000_003 for n in range(700_000)])
    async with open_kafka_sender(kafka) as sender:
        with anyio.fail_after(HANG_S):
            with pytest.raises(EventLogError, match="MessageSizeTooLarge"):
                await sender.send([Outgoing(DEAD_LETTER, b"k", noise)])
            await sender.send(events(1))
            await sender.send([Outgoing(DEAD_LETTER, b"k", b"x" * 3_000_000)])  # small once it is compressed


async def test_what_was_cancelled_in_the_middle_is_sent_again_by_a_new_producer(kafka: EventsSettings) -> None:
    async with open_kafka_sender(kafka) as sender:
        with anyio.fail_after(HANG_S):
            await sender.send(events(1))
            with anyio.move_on_after(0) as cancelled:
                await sender.send(events(500, "cancelled"))
            assert cancelled.cancelled_caught
            await sender.send(events(500, "again", keys=1))
        async with join(kafka, ["training_log"]) as consumer:
            reader = Reader(consumer)
            with anyio.fail_after(HANG_S):
                while sum(value is not None and value.startswith(b"again") for value in reader.values) < 500:
                    await reader.fetch()
    again = [value for value in reader.values if value is not None and value.startswith(b"again")]
    assert again == [event.value for event in events(500, "again", keys=1)]
