"""What brokers say of retention; tests/integration asks a real one."""

from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import IncompatibleBrokerVersion

from borgcore.eventlog.kafka.retention import TopicRetention, ask_retention, ask_sizes


class Broker:
    """The only one of its cluster; answers every request alike."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.cluster = self

    def get_random_node(self) -> int:
        return 1

    def leader_for_partition(self, tp: TopicPartition) -> int | None:
        return 1 if tp.partition == 0 else None

    async def send(self, _node: int, _request: Any, *, group: Any) -> Any:  # noqa: ARG002  # its signature
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.mark.parametrize("error", [IncompatibleBrokerVersion(), NotImplementedError()])
async def test_a_broker_that_lacks_the_api_tells_nothing(error: Exception) -> None:
    assert await ask_retention(Broker(error), ["a"]) == {}
    assert await ask_sizes(Broker(error), [TopicPartition("a", 0)]) == {}


async def test_topics_that_we_may_not_describe_are_left_out_and_limits_hold_only_where_records_are_deleted() -> None:
    def of(policy: str) -> list[tuple[str, str, bool]]:
        return [("cleanup.policy", policy, False), ("retention.ms", "60000", False), ("retention.bytes", "-1", False)]

    policies = {"a": "delete", "b": "compact,delete", "c": "compact"}
    resources: list[Any] = [(0, None, 2, topic, of(policy)) for topic, policy in policies.items()]
    broker = Broker(SimpleNamespace(resources=[*resources, (29, "denied", 2, "d", [])]))
    assert await ask_retention(broker, ["a", "b", "c", "d"]) == {
        "a": TopicRetention(60_000, -1, compacted=False),
        "b": TopicRetention(60_000, -1, compacted=True),
        "c": TopicRetention(-1, -1, compacted=True),
    }


async def test_sizes_leave_out_copies_that_are_being_moved_and_partitions_without_a_leader() -> None:
    results = [(0, "/data", [("a", [(0, 700, 0, False), (0, 20, 0, True)])])]
    broker = Broker(SimpleNamespace(results=results))
    assert await ask_sizes(broker, [TopicPartition("a", 0), TopicPartition("a", 1)]) == {TopicPartition("a", 0): 700}
