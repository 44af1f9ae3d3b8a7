"""The ids of topics: a topic that is deleted and created again gets another one.

Metadata has them since version 10 (Kafka 2.8); aiokafka's own requests end at version 5. The layout is that of
MetadataRequest.json and MetadataResponse.json in Kafka's source.
"""

from collections.abc import Collection
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.client import ConnectionGroup
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

TopicId = tuple[int, int]
"""The upper and the lower half of a UUID."""
_METADATA = 3
_VERSION = 10
_NO_EXTRAS: tuple[Any, ...] = (False, False, False, {})  # neither create topics nor tell who may do what; no tags
_NONE: TopicId = (0, 0)  # asked by name; the answer of a cluster whose topics have no ids yet


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


class _TopicIds(Request[_Question]):  # type: ignore[misc]
    API_KEY = _METADATA

    def __init__(self, topics: Collection[str]) -> None:
        self._topics = topics

    def build(self, request_struct_class: type[_Question]) -> _Question:
        asked: list[Any] = [(*_NONE, topic, {}) for topic in self._topics]
        return request_struct_class(asked, *_NO_EXTRAS)


async def ask_topic_ids(consumer: AIOKafkaConsumer, topics: Collection[str]) -> dict[str, TopicId]:
    """Ask one of the brokers, not on the connection on which reads wait; topics that have no id are left out.

    Raises:
        KafkaError: no broker answers.
    """
    client = consumer._client  # noqa: SLF001  # there is no public way
    node = client.get_random_node()
    if node is None:
        return {}
    try:
        reply = await client.send(node, _TopicIds(topics), group=ConnectionGroup.COORDINATION)
    except NotImplementedError:  # a broker before 2.8
        return {}
    return {
        name: (upper, lower)
        for code, name, upper, lower, *_ in reply.topics
        if not code and name is not None and (upper, lower) != _NONE
    }
