"""Requests that aiokafka lacks: topic ids, and our permissions on topics and a group.

A topic that is deleted and created again gets a new id. Metadata responses contain ids since version 10 (Kafka 2.8);
aiokafka's own requests stop at version 5. The layout follows MetadataRequest.json and MetadataResponse.json in Kafka's
source.
"""

from collections.abc import Collection
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import (
    GroupAuthorizationFailedError,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
    for_code,
)
from aiokafka.protocol.admin import DescribeGroupsRequest_v3, DescribeGroupsResponse_v3
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import (
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Int64,
    Schema,
    TaggedFields,
)

from borgcore.eventlog.kafka.request import ask_if_known

TopicId = tuple[int, int]
"""The upper and the lower half of a UUID."""
READ, WRITE = 3, 4
"""Kafka's AclOperation: bit numbers in a set of permitted operations."""
_METADATA, _DESCRIBE_GROUPS = 3, 15
_VERSION = 10
_NONE: TopicId = (0, 0)  # in a request: look up by name; in a response: the topic has no id


class _Reply(Response):  # type: ignore[misc]  # aiokafka has no types, here and below
    API_KEY = _METADATA
    API_VERSION = _VERSION
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            CompactArray(
                ("node_id", Int32),
                ("host", CompactString("utf-8")),
                ("port", Int32),
                ("rack", CompactString("utf-8")),
                ("tags", TaggedFields),
            ),
        ),
        ("cluster_id", CompactString("utf-8")),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16),
                ("name", CompactString("utf-8")),
                ("id_upper", Int64),
                ("id_lower", Int64),
                ("is_internal", Boolean),
                (
                    "partitions",
                    CompactArray(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", CompactArray(Int32)),
                        ("isr", CompactArray(Int32)),
                        ("offline_replicas", CompactArray(Int32)),
                        ("tags", TaggedFields),
                    ),
                ),
                ("topic_authorized_operations", Int32),
                ("tags", TaggedFields),
            ),
        ),
        ("cluster_authorized_operations", Int32),
        ("tags", TaggedFields),
    )


class _Question(RequestStruct):  # type: ignore[misc]
    FLEXIBLE_VERSION = True
    API_KEY = _METADATA
    API_VERSION = _VERSION
    RESPONSE_TYPE = _Reply
    SCHEMA = Schema(
        (
            "topics",
            CompactArray(
                ("id_upper", Int64),
                ("id_lower", Int64),
                ("name", CompactString("utf-8")),
                ("tags", TaggedFields),
            ),
        ),
        ("allow_auto_topic_creation", Boolean),
        ("include_cluster_authorized_operations", Boolean),
        ("include_topic_authorized_operations", Boolean),
        ("tags", TaggedFields),
    )


class _Metadata(Request[_Question]):  # type: ignore[misc]
    API_KEY = _METADATA

    def __init__(self, topics: Collection[str], *, permissions: bool) -> None:
        self._topics = topics
        self._permissions = permissions

    def build(self, request_struct_class: type[_Question]) -> _Question:
        asked: list[Any] = [(*_NONE, topic, {}) for topic in self._topics]
        return request_struct_class(asked, False, False, self._permissions, {})  # noqa: FBT003  # in Kafka's order


class _GroupQuestion(RequestStruct):  # type: ignore[misc]
    API_KEY = _DESCRIBE_GROUPS
    API_VERSION = 3
    RESPONSE_TYPE = DescribeGroupsResponse_v3  # aiokafka's own request of this version expects that of version 2
    SCHEMA = DescribeGroupsRequest_v3.SCHEMA


class _Group(Request[_GroupQuestion]):  # type: ignore[misc]
    API_KEY = _DESCRIBE_GROUPS

    def __init__(self, group: str) -> None:
        self._group = group

    def build(self, request_struct_class: type[_GroupQuestion]) -> _GroupQuestion:
        return request_struct_class([self._group], True)  # noqa: FBT003  # include permitted operations


async def ask_topic_ids(consumer: AIOKafkaConsumer, topics: Collection[str]) -> dict[str, TopicId]:
    """Ask a broker for topic ids, on another connection than the one on which fetches wait.

    Topics without an id are left out.

    Raises:
        KafkaError: no broker answered.
    """
    client = consumer._client  # noqa: SLF001  # there is no public API
    node = client.get_random_node()
    if node is None:
        return {}
    reply = await ask_if_known(client, node, _Metadata(topics, permissions=False))
    if reply is None:  # a broker before 2.8
        return {}
    return {
        name: (upper, lower)
        for code, name, upper, lower, *_ in reply.topics
        if not code and name is not None and (upper, lower) != _NONE
    }


async def ask_topic_permissions(admin: AIOKafkaAdminClient, topics: Collection[str]) -> dict[str, int | None]:
    """Return the permitted operations by topic, as a bit set; None for a topic that does not exist.

    Raises:
        KafkaError: no broker answered.
    """
    reply = await _ask(admin, admin._client.get_random_node(), _Metadata(topics, permissions=True))  # noqa: SLF001  # see above
    permitted: dict[str, int | None] = {}
    for code, name, _, _, _, _, bits, _ in reply.topics:
        permitted[name] = 0 if code == TopicAuthorizationFailedError.errno else bits
        if code == UnknownTopicOrPartitionError.errno:
            permitted[name] = None
    return permitted


async def ask_group_permissions(admin: AIOKafkaAdminClient, group: str) -> int:
    """Return the permitted operations on a group, which need not exist, as a bit set.

    Raises:
        KafkaError: its coordinator did not answer.
    """
    try:
        reply = await _ask(admin, await admin.find_coordinator(group), _Group(group))
    except GroupAuthorizationFailedError:
        return 0
    [(code, *_, bits)] = reply.groups
    if code == GroupAuthorizationFailedError.errno:
        return 0
    if code:  # the coordinator is still loading, for one: it does not know
        raise for_code(code)(f"the group {group} cannot be described")
    return int(bits)


async def _ask(admin: AIOKafkaAdminClient, node: int, request: Request[Any]) -> Any:
    return await admin._client.send(node, request)  # noqa: SLF001  # see above
