"""What each Kafka user of the full stack may do, on a real broker with the stack's own configuration."""

import itertools
from collections.abc import Awaitable, Collection, Iterator
from pathlib import Path

import anyio
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import NewTopic
from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    GroupCoordinatorNotAvailableError,
    GroupLoadInProgressError,
    NotCoordinatorForGroupError,
    SaslAuthenticationFailed,
    TopicAuthorizationFailedError,
)
from aiokafka.protocol.admin import CreateAclsRequest, DeleteAclsRequest, DescribeAclsRequest

from borgcore.errors import EventLogError, SettingsError
from borgcore.eventlog.kafka.check import check_kafka
from borgcore.eventlog.kafka.client import client_options, find_server, open_admin
from borgcore.eventlog.kafka.consumer import open_kafka_consumer
from borgcore.eventlog.kafka.metadata import READ, WRITE, ask_group_permissions, ask_topic_permissions
from borgcore.eventlog.kafka.sender import open_kafka_sender
from borgcore.eventlog.protocol import Outgoing
from borgcore.events.topics import DEAD_LETTER, TOPICS
from borgcore.settings.sections import EventsSettings
from borgsetup.keys import KAFKA_PASSWORDS
from borgsetup.settings import SetupSettings
from borgsetup.topics import DESCRIBE, GROUPS, TOPIC, TOPIC_GRANTS, list_grants, prepare_topics
from tests.integration.eventlog.kafka_log import ignore
from tests.integration.setup.deployed_kafka import DeployedKafka, run_deployed_kafka
from tests.limits import HANG_S, LONG_TEST_TIMEOUT_S

pytestmark = pytest.mark.timeout(LONG_TEST_TIMEOUT_S)
ALL = [*TOPICS, DEAD_LETTER]
USERS = sorted(TOPIC_GRANTS)


def step(kafka: DeployedKafka, user: str = "setup", **more: object) -> SetupSettings:
    events = kafka.settings(user)
    given = {"events_url": events.url, "events_user": user, "events_password": events.password, "events_sasl": "PLAIN"}
    return SetupSettings.model_validate({"step": "topics", "wait_s": HANG_S} | given | more)


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory, kafka_libs: Path) -> Iterator[DeployedKafka]:
    with run_deployed_kafka(tmp_path_factory.mktemp("kafka"), kafka_libs) as started:
        anyio.run(prepare_topics, step(started))
        yield started


async def group_permissions(events: EventsSettings, group: str) -> set[int]:
    """Ask until Kafka has made its topic of offsets, as it does at the first question."""
    with anyio.fail_after(HANG_S):
        while True:
            try:
                async with open_admin(events) as admin:
                    return operations(await ask_group_permissions(admin, group))
            except (GroupCoordinatorNotAvailableError, NotCoordinatorForGroupError, GroupLoadInProgressError):
                await anyio.sleep(0.2)


def operations(bits: int | None) -> set[int]:
    return {bit for bit in range(32) if (bits or 0) >> bit & 1}


def with_seeing(granted: Collection[int]) -> set[int]:
    return {*granted, DESCRIBE} if granted else set()


@pytest.mark.parametrize("user", USERS)
async def test_a_service_may_do_what_it_was_granted_and_nothing_else(kafka: DeployedKafka, user: str) -> None:
    """Kafka lists every operation that it would permit."""
    async with open_admin(kafka.settings(user)) as admin:
        found = await ask_topic_permissions(admin, [*ALL, "another"])
    granted = {topic: with_seeing(TOPIC_GRANTS[user][topic]) for topic in ALL} | {"another": set()}
    assert {topic: operations(bits) for topic, bits in found.items()} == granted
    for group in (*itertools.chain(*GROUPS.values()), "another"):
        expected = with_seeing({READ} if group in GROUPS.get(user, ()) else ())
        assert await group_permissions(kafka.settings(user), group) == expected


@pytest.mark.parametrize("user", USERS)
async def test_no_service_deletes_or_creates_a_topic_or_touches_permissions(kafka: DeployedKafka, user: str) -> None:
    rule = (TOPIC, "training_log", 3, f"User:{user}", "*", READ, 3)
    async with open_admin(kafka.settings(user)) as admin:
        client = admin._client
        for topic in ALL:
            deleted = await admin.delete_topics([topic])
            assert [code for _, code, *_ in deleted.topic_error_codes] == [TopicAuthorizationFailedError.errno]
        made = await admin.create_topics([NewTopic("another", 1, 1)])
        assert [code for _, code, *_ in made.topic_errors] == [TopicAuthorizationFailedError.errno]
        listed = await client.send(client.get_random_node(), DescribeAclsRequest(1, None, 1, None, None, 1, 1))
        assert listed.error_code == ClusterAuthorizationFailedError.errno
        added = await client.send(client.get_random_node(), CreateAclsRequest(*rule))
        assert [code for code, _ in added.creation_responses] == [ClusterAuthorizationFailedError.errno]
    async with open_admin(kafka.settings("setup")) as admin:
        assert set(ALL) <= set(await admin.list_topics())


@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("topic", ALL)
async def test_records_are_written_and_read_by_those_alone_who_may(kafka: DeployedKafka, user: str, topic: str) -> None:
    granted, options = TOPIC_GRANTS[user][topic], await client_options(kafka.settings(user))
    with anyio.fail_after(HANG_S):
        async with AIOKafkaProducer(**options, acks="all", enable_idempotence=WRITE in granted) as producer:
            sending = producer.send_and_wait(topic, b"{}")
            await outcome(sending, permitted=WRITE in granted)
        async with AIOKafkaConsumer(**options, auto_offset_reset="earliest") as consumer:
            consumer.assign([TopicPartition(topic, 0)])
            if READ in granted:
                await consumer.seek_to_end()
            await outcome(consumer.getmany(timeout_ms=1_000), permitted=READ in granted)


async def outcome(attempt: Awaitable[object], *, permitted: bool) -> None:
    if permitted:
        await attempt
    else:
        with pytest.raises(TopicAuthorizationFailedError):
            await attempt


@pytest.mark.parametrize("user", ["agent", "monitor", "logshipper"])
async def test_a_service_sends_what_it_publishes(kafka: DeployedKafka, user: str) -> None:
    topics = [topic for topic, granted in TOPIC_GRANTS[user].items() if WRITE in granted]
    async with open_kafka_sender(kafka.settings(user)) as sender:
        with anyio.fail_after(HANG_S):
            await sender.send([Outgoing(topic, b"key", b"{}") for topic in topics])


async def test_the_logshipper_finds_all_that_it_needs_and_joins_its_own_groups_alone(kafka: DeployedKafka) -> None:
    events, (group, replay) = kafka.settings("logshipper"), GROUPS["logshipper"]
    await group_permissions(events, group)
    with anyio.fail_after(HANG_S):
        assert "; topics to be created" not in await check_kafka(events, group)
        for topics, name in ((TOPICS, group), ([DEAD_LETTER], replay)):
            async with open_kafka_consumer(events, topics, group=name, member="a", revoked=ignore) as log:
                await log.fetch(1, 0.1)
        with pytest.raises(EventLogError, match="to read as the group borg-logstash"):
            await check_kafka(events, *GROUPS["logstash"])


@pytest.mark.parametrize("user", USERS)
async def test_one_users_password_opens_no_others_door(kafka: DeployedKafka, user: str) -> None:
    for other in KAFKA_PASSWORDS.keys() - {user}:
        with pytest.raises(SaslAuthenticationFailed):
            await find_server(kafka.settings(other, password=kafka.passwords[user]))


async def test_neither_port_takes_anyone_without_a_password(kafka: DeployedKafka) -> None:
    for port in (kafka.port, kafka.controller_port):
        with pytest.raises(EventLogError, match=f"Kafka at 127.0.0.1:{port} "):
            await check_kafka(EventsSettings(url=f"kafka://127.0.0.1:{port}", timeout_s=2.0), None)


async def test_a_permission_that_was_added_is_taken_back_and_one_that_was_lost_is_given(kafka: DeployedKafka) -> None:
    everything = (TOPIC, "training_log", 3, "User:monitor", "*", READ, 3)
    lost = (TOPIC, "training_log", 3, "User:agent", "*", WRITE, 3)
    of_people = (TOPIC, "training_log", 3, "User:somebody", "*", READ, 3)
    async with open_admin(kafka.settings("setup")) as admin:
        client = admin._client
        for rule in (everything, of_people):
            await client.send(client.get_random_node(), CreateAclsRequest(*rule))
        await client.send(client.get_random_node(), DeleteAclsRequest(*lost))
    await prepare_topics(step(kafka))
    async with open_admin(kafka.settings("setup")) as admin:
        client = admin._client
        reply = await client.send(client.get_random_node(), DescribeAclsRequest(1, None, 1, None, None, 1, 1))
    found = {(kind, name, who, may) for kind, name, _, rules in reply.resources for who, _, may, _ in rules}
    wanted = {(kind, name, f"User:{user}", may) for kind, name, user, may in list_grants("")}
    assert found == wanted | {(TOPIC, "training_log", "User:somebody", READ)}


async def test_a_user_who_may_not_prepare_topics_is_one_line(kafka: DeployedKafka) -> None:
    with pytest.raises(EventLogError, match="refused to change permissions: ClusterAuthorizationFailedError"):
        await prepare_topics(step(kafka, "agent"))


async def test_a_log_in_redis_is_refused() -> None:
    with pytest.raises(SettingsError, match="events_url: the log is in Redis, which needs no topics"):
        await prepare_topics(SetupSettings.model_validate({"step": "topics"}))
