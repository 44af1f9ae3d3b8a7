"""Asks how long Kafka keeps a topic's records, and how large its partitions are; aiokafka lacks the latter.

The layout of DescribeLogDirs follows DescribeLogDirsRequest.json and DescribeLogDirsResponse.json in Kafka's source.
"""

from collections import defaultdict
from collections.abc import Collection
from typing import Any, NamedTuple

from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.protocol.admin import DescribeConfigsRequest
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import Array, Boolean, Int16, Int32, Int64, Schema, String

from borgcore.eventlog.kafka.request import ask_if_known

_TOPIC = 2  # Kafka's ConfigResource.Type
_DESCRIBE_LOG_DIRS = 35
_CONFIGS = ["cleanup.policy", "retention.ms", "retention.bytes"]


class TopicRetention(NamedTuple):
    """When Kafka deletes the records of a topic."""

    ms: int
    """Age from which a record may be deleted, milliseconds; negative for never."""
    size_bytes: int
    """Size of a partition from which its oldest records are deleted, bytes; negative for no limit."""
    compacted: bool
    """Whether all but the newest record of each key are deleted."""


class _Sizes(Response):  # type: ignore[misc]  # aiokafka has no types, here and below
    API_KEY = _DESCRIBE_LOG_DIRS
    API_VERSION = 1
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "results",
            Array(
                ("error_code", Int16),
                ("log_dir", String("utf-8")),
                (
                    "topics",
                    Array(
                        ("name", String("utf-8")),
                        (
                            "partitions",
                            Array(
                                ("partition", Int32),
                                ("size", Int64),
                                ("offset_lag", Int64),
                                ("is_future", Boolean),
                            ),
                        ),
                    ),
                ),
            ),
        ),
    )


class _SizesQuestion(RequestStruct):  # type: ignore[misc]
    API_KEY = _DESCRIBE_LOG_DIRS
    API_VERSION = 1
    RESPONSE_TYPE = _Sizes
    SCHEMA = Schema(("topics", Array(("topic", String("utf-8")), ("partitions", Array(Int32)))))


class _LogDirs(Request[_SizesQuestion]):  # type: ignore[misc]
    API_KEY = _DESCRIBE_LOG_DIRS

    def __init__(self, topics: dict[str, list[int]]) -> None:
        self._topics = topics

    def build(self, request_struct_class: type[_SizesQuestion]) -> _SizesQuestion:
        return request_struct_class(list(self._topics.items()))


async def ask_retention(client: AIOKafkaClient, topics: Collection[str]) -> dict[str, TopicRetention]:
    """Return the retention of topics; those that do not exist, or whose settings we may not read, are left out.

    Raises:
        KafkaError: no broker answered.
    """
    node = client.get_random_node()
    if node is None:
        return {}
    reply = await ask_if_known(client, node, DescribeConfigsRequest([(_TOPIC, topic, _CONFIGS) for topic in topics]))
    found = {}
    for code, _, _, topic, entries in reply.resources if reply is not None else ():
        if code:
            continue
        values: dict[str, Any] = {name: value for name, value, *_ in entries}
        policy = str(values.get("cleanup.policy", "delete")).split(",")
        ms, size_bytes = int(values.get("retention.ms", -1)), int(values.get("retention.bytes", -1))
        found[topic] = TopicRetention(ms, size_bytes, "compact" in policy)
        if "delete" not in policy:  # then neither limit applies
            found[topic] = TopicRetention(-1, -1, compacted=True)
    return found


async def ask_sizes(client: AIOKafkaClient, tps: Collection[TopicPartition]) -> dict[TopicPartition, int]:
    """Return the sizes of partitions, bytes; none if we may not describe the cluster.

    Raises:
        KafkaError: a broker did not answer.
    """
    asked: defaultdict[int, defaultdict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for tp in tps:
        leader = client.cluster.leader_for_partition(tp)
        if leader is not None and leader >= 0:
            asked[leader][tp.topic].append(tp.partition)
    sizes: dict[TopicPartition, int] = {}
    for node, topics in asked.items():
        reply = await ask_if_known(client, node, _LogDirs(topics))
        for _, _, described in reply.results if reply is not None else ():
            for topic, partitions in described:
                sizes |= {TopicPartition(topic, number): size for number, size, _, future in partitions if not future}
    return sizes


def compaction_warning(topic: str) -> str:
    """Say what compaction does to a topic."""
    return (
        f"{topic} has cleanup.policy=compact, expected delete: Kafka deletes all but the newest event of each "
        "producer, read or not"
    )
