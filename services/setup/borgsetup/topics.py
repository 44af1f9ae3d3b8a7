"""Prepare Kafka: create the event log's topics, and grant each service what it does with them and nothing else.

The broker and the user of this step are super users (``super.users``); every other user may do only what is granted
here. Reading or writing a topic includes seeing it. Every service looks for all topics when it connects, so those that
neither read nor write one may see it.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import structlog
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import for_code
from aiokafka.protocol.admin import CreateAclsRequest, DeleteAclsRequest, DescribeAclsRequest
from aiokafka.protocol.api import Request

from borgcore.connection.retry import retry_through_outage
from borgcore.errors import EventLogError, SettingsError
from borgcore.eventlog.kafka.client import address_of, ensure_topics, is_refusal, named_errors, open_admin
from borgcore.eventlog.kafka.metadata import READ, WRITE
from borgcore.events.topics import DEAD_LETTER, TOPICS
from borgcore.settings.addresses import is_kafka
from borgcore.settings.sections import EventsSettings
from borgsetup.settings import SetupSettings

DESCRIBE, DESCRIBE_CONFIGS = 8, 10  # Kafka's AclOperation, as READ and WRITE
_READ_AND_RETENTION = (READ, DESCRIBE_CONFIGS)  # the logshipper warns before unread records are deleted
TOPIC, GROUP = 2, 3  # Kafka's ResourceType
TOPIC_GRANTS: Mapping[str, Mapping[str, tuple[int, ...]]] = {
    "agent": {"training_log": (WRITE,), "memory_monitoring": (WRITE,), DEAD_LETTER: (DESCRIBE,)},
    "monitor": {"training_log": (DESCRIBE,), "memory_monitoring": (WRITE,), DEAD_LETTER: (DESCRIBE,)},
    "logshipper": {
        "training_log": _READ_AND_RETENTION,
        "memory_monitoring": (*_READ_AND_RETENTION, WRITE),
        DEAD_LETTER: (READ, WRITE),  # a replay reads it
    },
    "logstash": {"training_log": (READ,), "memory_monitoring": (READ,), DEAD_LETTER: (WRITE,)},
}
"""User -> topic -> operations. Agents write both topics: lost events are reported in memory_monitoring."""
GROUPS: Mapping[str, tuple[str, ...]] = {
    "logshipper": ("borg-logshipper", "borg-logshipper-replay"),
    "logstash": ("borg-logstash",),
}
"""User -> the consumer groups that it may join."""
_ANY = 1  # in a filter
_LITERAL, _ALLOW, _EVERYWHERE = 3, 3, "*"  # Kafka's PatternType, AclPermissionType, host
_log = structlog.get_logger()


class _UnseenError(Exception):
    """Permissions were changed; the broker shows the change a moment later."""


class Grant(NamedTuple):
    """An operation that a user may do, from any host."""

    kind: int
    name: str
    user: str
    operation: int


def list_grants(prefix: str) -> frozenset[Grant]:
    """Return all grants, for topics with ``prefix``."""
    topics = {
        Grant(TOPIC, prefix + topic, user, operation)
        for user, granted in TOPIC_GRANTS.items()
        for topic, operations in granted.items()
        for operation in operations
    }
    return frozenset(topics | {Grant(GROUP, group, user, READ) for user, groups in GROUPS.items() for group in groups})


async def prepare_topics(settings: SetupSettings) -> None:
    """Create missing topics and grants, take back what our users may do beyond them, and wait until Kafka heeds it.

    Raises:
        SettingsError: the event log is not Kafka, or its user has no password.
        EventLogError: Kafka does not come up, or refuses us.
    """
    events = settings.events
    if not is_kafka(events.url):
        raise SettingsError(
            "events_url: the log is in Redis, which needs no topics; expected kafka://host:port; nothing was done"
        )
    changed = 0

    async def prepare() -> None:
        nonlocal changed
        await ensure_topics(events, (*TOPICS, DEAD_LETTER))
        if changes := await _change_grants(events):
            changed += changes
            raise _UnseenError

    try:
        await retry_through_outage(prepare, is_outage=_is_passing, give_up_after_s=settings.wait_s)
    except _UnseenError:
        raise EventLogError(
            f"{address_of(events)} does not show the permissions that it was given {settings.wait_s:g} s ago; start "
            "this step again"
        ) from None
    _log.info("topics_prepared", topics=len(TOPICS) + 1, grants=len(list_grants(events.prefix)), changed=changed)


def _is_passing(error: Exception) -> bool:
    """Return whether Kafka is away or has yet to show a change; no refusal passes."""
    if isinstance(error, EventLogError):
        return error.__cause__ is not None and not is_refusal(error.__cause__)
    return isinstance(error, _UnseenError)


async def _change_grants(events: EventsSettings) -> int:
    """Make the grants what they should be; return how many had to be changed."""
    wanted, where = list_grants(events.prefix), address_of(events)
    with named_errors(where, 5 * events.timeout_s):
        async with open_admin(events) as admin:
            found = await _ask_grants(admin, where)
            for grant in wanted - found:
                reply = await _send(admin, CreateAclsRequest(*_rule(grant)))
                _verify(where, reply.creation_responses)
            for grant in found - wanted:
                reply = await _send(admin, DeleteAclsRequest(*_rule(grant)))
                _verify(where, reply.filter_responses)
    return len(wanted ^ found)


async def _ask_grants(admin: AIOKafkaAdminClient, where: str) -> frozenset[Grant]:
    """Return the grants of our users; rules of another form, which only people make, are left alone."""
    reply = await _send(admin, DescribeAclsRequest(_ANY, None, _ANY, None, None, _ANY, _ANY))
    _verify(where, [(reply.error_code, reply.error_message)])
    users = {_principal(user): user for user in TOPIC_GRANTS}
    return frozenset(
        Grant(kind, name, users[principal], operation)
        for kind, name, pattern, rules in reply.resources
        for principal, host, operation, permission in rules
        if principal in users and (pattern, host, permission) == (_LITERAL, _EVERYWHERE, _ALLOW)
    )


def _rule(grant: Grant) -> tuple[int, str, int, str, str, int, int]:
    return grant.kind, grant.name, _LITERAL, _principal(grant.user), _EVERYWHERE, grant.operation, _ALLOW


def _principal(user: str) -> str:
    return f"User:{user}"


def _verify(where: str, answers: Sequence[tuple[Any, ...]]) -> None:
    for code, text, *_ in answers:
        if code:
            raise EventLogError(
                f"{where} refused to change permissions: {for_code(code).__name__}: {text}; expected a super user and "
                "an authorizer; start this step again"
            )


async def _send(admin: AIOKafkaAdminClient, request: Request[Any]) -> Any:
    client = admin._client  # noqa: SLF001  # there is no public API
    return await client.send(client.get_random_node(), request)
