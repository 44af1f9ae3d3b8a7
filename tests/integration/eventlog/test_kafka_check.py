"""What ``--check-config`` finds in a real Kafka, and in one that permits only what is listed."""

from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.protocol.admin import CreateAclsRequest
from anyio import to_thread
from pydantic import SecretStr

from borgcore.errors import EventLogError
from borgcore.eventlog.kafka.check import check_kafka
from borgcore.eventlog.kafka.client import ensure_topics, open_admin
from borgcore.eventlog.open import check_log
from borgcore.settings.sections import EventsSettings
from tests.limits import HANG_S, LONG_TEST_TIMEOUT_S
from tests.scripted_servers import ScriptedServer

from .broker import run_broker

TOPIC, GROUP = 2, 3  # Kafka's ResourceType
LITERAL, ALLOW = 3, 3
READ, WRITE, CREATE, DESCRIBE = 3, 4, 5, 8
pytestmark = pytest.mark.timeout(LONG_TEST_TIMEOUT_S)


async def until_described(kafka: EventsSettings, expected: str, group: str | None = None) -> None:
    """Check until the description is as expected: a broker learns of a new topic a moment after its creation."""
    while (found := await check_log(kafka, group)) != expected:
        assert found.startswith(f"{expected.partition(';')[0]}; topics to be created: ")
        await anyio.sleep(0.05)


async def test_the_version_is_described_and_missing_topics_are_named_but_not_created(kafka: EventsSettings) -> None:
    where = f"Kafka at {kafka.url.removeprefix('kafka://')}, 1 broker, version 4.0 or newer"
    names = [kafka.prefix + topic for topic in ("training_log", "memory_monitoring", "dead_letter")]
    with anyio.fail_after(HANG_S):
        for _ in range(2):
            assert await check_log(kafka, "nobody-yet") == f"{where}; topics to be created: {', '.join(names)}"
        await ensure_topics(kafka, ["training_log", "dead_letter"])
        await until_described(kafka, f"{where}; topics to be created: {names[1]}")
        await ensure_topics(kafka, ["memory_monitoring"])
        await until_described(kafka, where, "nobody-yet")


async def test_a_compacted_topic_is_warned_of(kafka: EventsSettings) -> None:
    await ensure_topics(kafka, ["training_log", "memory_monitoring"])
    topic = NewTopic(f"{kafka.prefix}dead_letter", 1, 1, topic_configs={"cleanup.policy": "compact,delete"})
    async with open_admin(kafka) as admin:
        await admin.create_topics([topic])
    with anyio.fail_after(HANG_S):
        await until_described(
            kafka,
            f"Kafka at {kafka.url.removeprefix('kafka://')}, 1 broker, version 4.0 or newer; warning: {topic.name} has "
            "cleanup.policy=compact, expected delete: Kafka deletes all but the newest event of each producer, read or "
            "not",
        )


async def test_missing_topics_that_cannot_be_created_are_reported(kafka: EventsSettings) -> None:
    with anyio.fail_after(HANG_S), pytest.raises(EventLogError, match="missing: InvalidReplicationFactorError"):
        await check_log(kafka.model_copy(update={"replication": 7}))


@pytest.fixture
async def guarded(
    scripted_kafka: ScriptedServer, kafka_libs: Path, unused_port: int
) -> AsyncIterator[tuple[EventsSettings, EventsSettings]]:
    """A Kafka with access control: who may do everything, and who may do nothing."""
    folder, port = scripted_kafka.folder, unused_port
    await to_thread.run_sync(scripted_kafka.stop)
    listeners = f"PLAINTEXT://{scripted_kafka.address},SASL_PLAINTEXT://127.0.0.1:{port}"
    controller = f"CONTROLLER://127.0.0.1:{scripted_kafka.environment['KAFKA_CONTROLLER_PORT']}"
    properties = (folder / "server.properties").read_text() + (
        f"listeners={listeners},{controller}\nadvertised.listeners={listeners}\n"
        "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer\nsuper.users=User:ANONYMOUS\n"
    )
    anybody = EventsSettings(url=f"kafka://{scripted_kafka.address}")
    user = EventsSettings(url=f"kafka://127.0.0.1:{port}", user="test", password=SecretStr("test-secret"), sasl="PLAIN")
    async with run_broker(folder, kafka_libs, properties, anybody):
        yield anybody, user


async def allow(admin: AIOKafkaAdminClient, kind: int, name: str, operation: int) -> None:
    request = CreateAclsRequest(kind, name, LITERAL, "User:test", "*", operation, ALLOW)
    reply = await admin._client.send(admin._client.get_random_node(), request)
    assert [code for code, _ in reply.creation_responses] == [0]


async def test_every_permission_that_is_missing_is_named_at_once(
    guarded: tuple[EventsSettings, EventsSettings],
) -> None:
    anybody, user = guarded
    where = f"Kafka at {user.url.removeprefix('kafka://')}"

    async def finds(text: str) -> None:
        """Wait until it does: the broker heeds a rule a little later than it has taken it."""
        with anyio.fail_after(HANG_S):
            while True:
                try:
                    found = await check_kafka(user, "g")
                except EventLogError as error:
                    found = str(error)
                if found.startswith(f"{where}{text}"):
                    return
                await anyio.sleep(0.1)

    def denied(*what: str) -> str:
        actions = ", to ".join(what)
        return f" denies this user permissions that are needed: to {actions}; nothing is read until they are granted"

    reads = ["read the topic training_log", "read the topic memory_monitoring"]
    writes = ["write the topic memory_monitoring", "write the topic dead_letter"]
    await finds(denied(*reads, *writes, "read as the group g"))
    await ensure_topics(anybody, ["training_log", "memory_monitoring"])
    async with open_admin(anybody) as admin:
        await allow(admin, TOPIC, "training_log", READ)
        await allow(admin, TOPIC, "memory_monitoring", DESCRIBE)
        await allow(admin, GROUP, "g", DESCRIBE)
        await finds(denied(reads[1], *writes, "read as the group g"))
        await allow(admin, TOPIC, "memory_monitoring", READ)
        await allow(admin, TOPIC, "memory_monitoring", WRITE)
        await allow(admin, GROUP, "g", READ)
        await finds(denied(writes[1]))
        await allow(admin, TOPIC, "dead_letter", WRITE)
        await finds(" does not let us create the topic dead_letter, which is missing: TopicAuthorizationFailedError")
        await allow(admin, TOPIC, "dead_letter", CREATE)
        await finds(", 1 broker, version 4.0 or newer; topics to be created: dead_letter")
