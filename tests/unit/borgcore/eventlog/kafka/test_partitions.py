from collections.abc import Collection
from types import SimpleNamespace
from typing import Any

import anyio
import pytest
from aiokafka import TopicPartition
from aiokafka.client import ConnectionGroup
from aiokafka.errors import KafkaConnectionError

from borgcore.eventlog.kafka.partitions import AssignedPartitions
from borgcore.eventlog.kafka.position import PartitionPosition
from borgcore.eventlog.protocol import Partition
from borgcore.settings.sections import EventsSettings
from tests.limits import HANG_S

ONE, TWO = TopicPartition("training_log", 0), TopicPartition("training_log", 1)


class Rebalancing:
    """A consumer: while it says where its partitions end, the group rebalances."""

    def __init__(self, partitions: AssignedPartitions, *, at_once: bool) -> None:
        self.partitions = partitions
        self.at_once = at_once

    def partitions_for_topic(self, topic: str) -> set[int]:
        assert topic == ONE.topic
        return {0, 1}

    def assignment(self) -> set[TopicPartition]:
        return set()

    async def end_offsets(self, tps: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        if self.at_once:
            await self.partitions.let_go()
        return dict.fromkeys(tps, 5)  # shorter than they were read: they are others

    def seek(self, tp: TopicPartition, offset: int) -> None:
        raise AssertionError(f"{tp} is no longer ours, and is set to {offset}")


@pytest.mark.parametrize("at_once", [True, False])
async def test_partitions_that_go_while_they_are_looked_at_are_left_alone(*, at_once: bool) -> None:
    let_go: list[Partition] = []

    async def revoked(gone: Collection[Partition]) -> None:
        let_go.extend(gone)
        if not at_once and len(let_go) == 1:  # in the middle of the look
            await partitions.let_go()

    partitions = AssignedPartitions(EventsSettings(url="kafka://127.0.0.1:9"), "group", revoked)
    for number, tp in enumerate((ONE, TWO)):
        partitions._partitions[tp] = PartitionPosition(Partition(tp.topic, number), 10, "1700000000000")
    partitions.doubted = {ONE, TWO}
    with anyio.fail_after(HANG_S):
        await partitions.know_again(Rebalancing(partitions, at_once=at_once))
    assert {partition.number for partition in let_go} == {0, 1}
    assert partitions.doubted == set()


class Answering:
    """A consumer whose cluster tells the ids of topics."""

    def __init__(self) -> None:
        self.seeks: list[tuple[TopicPartition, int]] = []
        self.ids: dict[str, int] | Exception = {}
        self._client = self

    def get_random_node(self) -> int:
        return 1

    async def send(self, node: int, request: Any, *, group: ConnectionGroup) -> SimpleNamespace:
        assert (node, request.API_KEY, group) == (1, 3, ConnectionGroup.COORDINATION)
        if isinstance(self.ids, Exception):
            raise self.ids
        topics: list[Any] = [(0, topic, 0, number, False, [], 0, {}) for topic, number in self.ids.items()]
        return SimpleNamespace(topics=[*topics, (3, "missing", 0, 0, False, [], 0, {})])

    def assignment(self) -> set[TopicPartition]:
        return {ONE, TWO}

    def seek(self, tp: TopicPartition, offset: int) -> None:
        self.seeks.append((tp, offset))


async def look(*answers: dict[str, int] | Exception) -> tuple[list[Partition], list[tuple[TopicPartition, int]]]:
    """Look once for each answer; returns what was let go, and where reading goes on."""
    let_go: list[Partition] = []

    async def revoked(gone: Collection[Partition]) -> None:
        let_go.extend(gone)

    partitions = AssignedPartitions(EventsSettings(url="kafka://127.0.0.1:9"), "group", revoked)
    for number, tp in enumerate((ONE, TWO)):
        partitions._partitions[tp] = PartitionPosition(Partition(tp.topic, number), 10, "1700000000000")
    consumer = Answering()
    for consumer.ids in answers:
        await partitions.look(consumer, [ONE.topic])
    return let_go, consumer.seeks


async def test_a_topic_with_another_id_is_read_from_its_start_once() -> None:
    let_go, seeks = await look({ONE.topic: 7}, {ONE.topic: 7}, {ONE.topic: 8}, {ONE.topic: 8})
    assert {partition.number for partition in let_go} == {0, 1}
    assert sorted(seeks) == [(ONE, 0), (TWO, 0)]


async def test_a_broker_that_is_behind_the_others_does_not_bring_the_former_topic_back() -> None:
    _, seeks = await look({ONE.topic: 7}, {ONE.topic: 8}, {ONE.topic: 7}, {ONE.topic: 8})
    assert len(seeks) == 2


@pytest.mark.parametrize(
    "answer", [{}, {ONE.topic: 0}, NotImplementedError(), KafkaConnectionError()], ids=["gone", "none", "old", "away"]
)
async def test_without_an_id_topics_stay_what_they_are(answer: dict[str, int] | Exception) -> None:
    assert await look(answer, {ONE.topic: 7}, answer, {ONE.topic: 7}) == ([], [])


async def test_a_rebalance_while_a_topic_made_anew_is_let_go_leaves_the_rest_to_the_next_look() -> None:
    let_go: list[Partition] = []

    async def revoked(gone: Collection[Partition]) -> None:
        let_go.extend(gone)
        if len(let_go) == 1:  # in the middle of the look
            await partitions.let_go()

    partitions = AssignedPartitions(EventsSettings(url="kafka://127.0.0.1:9"), "group", revoked)
    for number, tp in enumerate((ONE, TWO)):
        partitions._partitions[tp] = PartitionPosition(Partition(tp.topic, number), 10, "1700000000000")
    consumer = Answering()
    for number in (7, 8):
        consumer.ids = {ONE.topic: number}
        await partitions.look(consumer, [ONE.topic])
    assert {partition.number for partition in let_go} == {0, 1}
    assert TWO not in dict(consumer.seeks)

    partitions.take_up([TWO])
    partitions._partitions[TWO] = PartitionPosition(Partition(TWO.topic, 1), 10, "1700000000000")
    await partitions.look(consumer, [ONE.topic])
    assert consumer.seeks[-1] == (TWO, 0)
    assert let_go[-1] == Partition(TWO.topic, 1)
