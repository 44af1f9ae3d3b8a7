from collections.abc import Collection
from types import SimpleNamespace
from typing import Any

import anyio
import pytest
from aiokafka import TopicPartition
from aiokafka.client import ConnectionGroup
from aiokafka.errors import KafkaConnectionError

from borgcore.eventlog.kafka.losses import LossCounter
from borgcore.eventlog.kafka.partitions import AssignedPartitions
from borgcore.eventlog.kafka.position import PartitionPosition
from borgcore.eventlog.protocol import Loss, Partition
from borgcore.settings.sections import EventsSettings
from tests.limits import HANG_S

ONE, TWO = TopicPartition("training_log", 0), TopicPartition("training_log", 1)


class Rebalancing:
    """A consumer whose group rebalances while it is asked for end offsets."""

    def __init__(self, partitions: AssignedPartitions, *, at_once: bool) -> None:
        self.partitions = partitions
        self.at_once = at_once

    def partitions_for_topic(self, topic: str) -> set[int]:
        assert topic == ONE.topic
        return {0, 1}

    def assignment(self) -> set[TopicPartition]:
        return set()

    async def beginning_offsets(self, tps: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(tps, 0)

    async def end_offsets(self, tps: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        if self.at_once:
            await self.partitions.release()
        return dict.fromkeys(tps, 5)  # shorter than was read: they were replaced

    def seek(self, tp: TopicPartition, offset: int) -> None:
        raise AssertionError(f"{tp} is no longer assigned, but was set to {offset}")


async def test_every_assignment_and_release_begins_a_generation() -> None:
    async def revoked(_gone: Collection[Partition]) -> None:
        seen.append(partitions.generation)

    seen: list[int] = []
    partitions = AssignedPartitions(EventsSettings(url="kafka://127.0.0.1:9"), "group", revoked, LossCounter())
    assert partitions.generation == 0
    partitions.assign([])
    await partitions.release()  # without partitions as well: a check under way must notice
    partitions.assign([ONE])
    assert partitions.generation == 3
    partitions._positions[ONE] = PartitionPosition(Partition(ONE.topic, 0), 10, "1700000000000")
    await partitions.release()
    assert seen == [4], "a check under way must notice before the partition's owner is awaited"


async def test_partitions_assigned_again_during_verification_stay_unverified() -> None:
    async def revoked(gone: Collection[Partition]) -> None:
        raise AssertionError(f"{gone} was verified although it was assigned again")

    class Reassigning(Rebalancing):
        async def end_offsets(self, tps: Collection[TopicPartition]) -> dict[TopicPartition, int]:
            self.partitions.assign([ONE, TWO])
            for number, tp in enumerate((ONE, TWO)):
                self.partitions._positions[tp] = PartitionPosition(Partition(tp.topic, number), 10, "1700000000000")
            return dict.fromkeys(tps, 5)

    partitions = AssignedPartitions(EventsSettings(url="kafka://127.0.0.1:9"), "group", revoked, LossCounter())
    for number, tp in enumerate((ONE, TWO)):
        partitions._positions[tp] = PartitionPosition(Partition(tp.topic, number), 10, "1700000000000")
    partitions.unverified = {ONE, TWO}
    with anyio.fail_after(HANG_S):
        await partitions.verify(Reassigning(partitions, at_once=False))
    assert partitions.unverified == {ONE, TWO}


@pytest.mark.parametrize("at_once", [True, False])
async def test_partitions_released_during_verification_are_left_alone(*, at_once: bool) -> None:
    released: list[Partition] = []

    async def revoked(gone: Collection[Partition]) -> None:
        released.extend(gone)
        if not at_once and len(released) == 1:  # in the middle of the check
            await partitions.release()

    partitions = AssignedPartitions(EventsSettings(url="kafka://127.0.0.1:9"), "group", revoked, LossCounter())
    for number, tp in enumerate((ONE, TWO)):
        partitions._positions[tp] = PartitionPosition(Partition(tp.topic, number), 10, "1700000000000")
    partitions.unverified = {ONE, TWO}
    with anyio.fail_after(HANG_S):
        await partitions.verify(Rebalancing(partitions, at_once=at_once))
    assert {partition.number for partition in released} == {0, 1}
    assert partitions.unverified == set()


class Answering:
    """A consumer whose cluster answers with topic ids."""

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


async def check(*answers: dict[str, int] | Exception) -> tuple[list[Partition], list[tuple[TopicPartition, int]]]:
    """Check topic ids once per answer; return the released partitions and the seeks."""
    released: list[Partition] = []

    async def revoked(gone: Collection[Partition]) -> None:
        released.extend(gone)

    partitions = AssignedPartitions(EventsSettings(url="kafka://127.0.0.1:9"), "group", revoked, LossCounter())
    for number, tp in enumerate((ONE, TWO)):
        partitions._positions[tp] = PartitionPosition(Partition(tp.topic, number), 10, "1700000000000")
    consumer = Answering()
    for consumer.ids in answers:
        await partitions.check_topic_ids(consumer, [ONE.topic])
    return released, consumer.seeks


async def test_a_topic_with_another_id_is_read_from_its_start_once() -> None:
    released, seeks = await check({ONE.topic: 7}, {ONE.topic: 7}, {ONE.topic: 8}, {ONE.topic: 8})
    assert {partition.number for partition in released} == {0, 1}
    assert sorted(seeks) == [(ONE, 0), (TWO, 0)]


async def test_a_broker_that_is_behind_the_others_does_not_bring_the_former_topic_back() -> None:
    _, seeks = await check({ONE.topic: 7}, {ONE.topic: 8}, {ONE.topic: 7}, {ONE.topic: 8})
    assert len(seeks) == 2


@pytest.mark.parametrize(
    "answer", [{}, {ONE.topic: 0}, NotImplementedError(), KafkaConnectionError()], ids=["gone", "none", "old", "away"]
)
async def test_without_an_id_topics_stay_what_they_are(answer: dict[str, int] | Exception) -> None:
    assert await check(answer, {ONE.topic: 7}, answer, {ONE.topic: 7}) == ([], [])


class Moving(Answering):
    """One that has read to an offset of each partition, whose end it knows."""

    read, end = 0, 0

    def highwater(self, _tp: TopicPartition) -> int:
        return self.end

    async def position(self, _tp: TopicPartition) -> int:
        return self.read


@pytest.mark.parametrize("passed", [13, 80], ids=["read on in the former topic", "read in the new one, unnoticed"])
async def test_records_of_a_replaced_topic_are_lost_as_the_last_read_knew_them(passed: int) -> None:
    async def revoked(_gone: Collection[Partition]) -> None:
        return

    losses = LossCounter()
    partitions = AssignedPartitions(EventsSettings(url="kafka://127.0.0.1:9"), "group", revoked, losses)
    partition = Partition(ONE.topic, 0)
    partitions._positions[ONE] = PartitionPosition(partition, 10, "1700000000000")
    consumer = Moving()
    consumer.ids = {ONE.topic: 7}
    await partitions.check_topic_ids(consumer, [ONE.topic])
    for consumer.read, consumer.end in ((12, 18), (passed, max(passed, 18))):
        await partitions._advance(consumer, ONE)
    consumer.ids = {ONE.topic: 8}
    await partitions.check_topic_ids(consumer, [ONE.topic])
    assert losses.take() == [Loss(partition, 5 if passed == 13 else 6, "topic_replaced")]


@pytest.mark.parametrize("assigned", [[], [ONE]], ids=["to nobody yet", "to us"])
@pytest.mark.parametrize("reader", ["the same", "another"])
async def test_a_topic_replaced_in_a_rebalance_is_lost_to_its_last_reader(
    reader: str, assigned: list[TopicPartition]
) -> None:
    async def revoked(_gone: Collection[Partition]) -> None:
        return

    losses = LossCounter()
    partitions = AssignedPartitions(EventsSettings(url="kafka://127.0.0.1:9"), "group", revoked, losses)
    partition = Partition(ONE.topic, 0)
    partitions.assign([ONE])
    partitions._positions[ONE] = PartitionPosition(partition, 10, "1700000000000")
    consumer = Moving()
    consumer.ids = {ONE.topic: 7}
    await partitions.check_topic_ids(consumer, [ONE.topic])
    partitions.unverified.clear()
    consumer.read, consumer.end = 12, 18
    await partitions._advance(consumer, ONE)
    await partitions.release()
    if reader == "another":
        partitions.assign([TWO])
        await partitions.check_topic_ids(consumer, [ONE.topic])
    partitions.assign(assigned)
    for consumer.ids in ({}, {ONE.topic: 8}, {ONE.topic: 8}):
        await partitions.check_topic_ids(consumer, [ONE.topic])
    assert losses.take() == ([] if reader == "another" else [Loss(partition, 6, "topic_replaced")])


async def test_a_rebalance_while_a_replaced_topic_is_released_leaves_the_rest_to_the_next_check() -> None:
    released: list[Partition] = []

    async def revoked(gone: Collection[Partition]) -> None:
        released.extend(gone)
        if len(released) == 1:  # in the middle of the check
            await partitions.release()

    partitions = AssignedPartitions(EventsSettings(url="kafka://127.0.0.1:9"), "group", revoked, LossCounter())
    for number, tp in enumerate((ONE, TWO)):
        partitions._positions[tp] = PartitionPosition(Partition(tp.topic, number), 10, "1700000000000")
    consumer = Answering()
    for number in (7, 8):
        consumer.ids = {ONE.topic: number}
        await partitions.check_topic_ids(consumer, [ONE.topic])
    assert {partition.number for partition in released} == {0, 1}
    assert TWO not in dict(consumer.seeks)

    partitions.assign([TWO])
    partitions._positions[TWO] = PartitionPosition(Partition(TWO.topic, 1), 10, "1700000000000")
    await partitions.check_topic_ids(consumer, [ONE.topic])
    assert consumer.seeks[-1] == (TWO, 0)
    assert released[-1] == Partition(TWO.topic, 1)


async def test_a_partition_assigned_again_while_it_is_released_stays_unverified() -> None:
    async def revoked(_gone: Collection[Partition]) -> None:
        partitions.assign([ONE])

    partitions = AssignedPartitions(EventsSettings(url="kafka://127.0.0.1:9"), "group", revoked, LossCounter())
    partitions._positions[ONE] = PartitionPosition(Partition(ONE.topic, 0), 10, "1700000000000")
    consumer = Answering()
    for number in (7, 8):
        consumer.ids = {ONE.topic: number}
        await partitions.check_topic_ids(consumer, [ONE.topic])
    assert partitions.unverified == {ONE}
