"""Several consumers in one group of a real Kafka: sharing, handing over, a name used twice."""

from collections.abc import Collection
from contextlib import AsyncExitStack

import anyio
import pytest
from aiokafka.admin import NewPartitions

from borgcore.errors import EventLogError
from borgcore.eventlog.kafka.client import open_admin
from borgcore.eventlog.kafka.sender import open_kafka_sender
from borgcore.eventlog.protocol import Partition
from borgcore.settings.sections import EventsSettings
from tests.limits import HANG_S

from .kafka_log import Reader, events, join


async def test_two_members_share_and_what_is_under_way_is_committed_before_it_is_handed_over(
    kafka: EventsSettings,
) -> None:
    order: list[str] = []
    first_values: list[bytes | None] = []
    joined = anyio.Event()

    async def revoked(partitions: Collection[Partition]) -> None:
        order.append(f"revoked {len(partitions)}")
        with anyio.move_on_after(0.5):  # work during which nobody is to take over
            await joined.wait()
        await reader.consumer.commit(reader.upto)
        order.append("committed")

    async with open_kafka_sender(kafka) as sender, join(kafka, revoked=revoked) as one:
        await sender.send(events(200, "early", keys=50))
        reader = Reader(one)
        await reader.read(200)
        first_values += reader.values
        assert order == []
        async with AsyncExitStack() as stack:
            with anyio.fail_after(HANG_S):
                async with anyio.create_task_group() as group:
                    group.start_soon(_fetch_until_revoked, reader, order)
                    two = Reader(await stack.enter_async_context(join(kafka, member="two")))
                    order.append("joined")
                    joined.set()
            assert order == ["revoked 6", "committed", "joined"]
            late = events(200, "late", keys=50)
            await sender.send(late)
            with anyio.fail_after(HANG_S):
                while len(reader.values) + len(two.values) < 400:
                    await reader.fetch()
                    await two.fetch()
    assert sorted(filter(None, first_values)) == sorted(event.value for event in events(200, "early", keys=50))
    assert two.values
    assert len(reader.values) > 200
    assert sorted(filter(None, reader.values[200:] + two.values)) == sorted(event.value for event in late)


async def _fetch_until_revoked(reader: Reader, order: list[str]) -> None:
    while "joined" not in order:
        await reader.fetch()


async def test_late_commits_of_partitions_that_are_anothers_by_now_are_left_out(kafka: EventsSettings) -> None:
    async with open_kafka_sender(kafka) as sender, join(kafka) as one:
        await sender.send(events(100, keys=50))
        reader = Reader(one)
        await reader.read(100)
        async with AsyncExitStack() as stack:
            joined: list[str] = []
            with anyio.fail_after(HANG_S):
                async with anyio.create_task_group() as group:
                    group.start_soon(_fetch_until_revoked, Reader(one), joined)
                    two = Reader(await stack.enter_async_context(join(kafka, member="two")))
                    joined.append("joined")
            await one.commit(reader.upto)
            with anyio.fail_after(HANG_S):
                while len(two.values) + len(reader.values) < 200:  # nothing was committed: all comes again
                    await two.fetch()
                    await reader.fetch()


async def test_a_successor_of_the_same_name_takes_over_and_the_first_one_ends(kafka: EventsSettings) -> None:
    async with open_kafka_sender(kafka) as sender, join(kafka) as one, join(kafka) as two:
        await sender.send(events(50))
        old, new = Reader(one), Reader(two)
        with anyio.fail_after(HANG_S), pytest.raises(EventLogError) as caught:
            await old.fetch_for_ever()
        address = kafka.url.removeprefix("kafka://")
        assert str(caught.value) == (
            f"Kafka at {address} has given our membership in the group {kafka.prefix}group to another member named "
            "one; expected unique names; this member ends"
        )
        with pytest.raises(EventLogError, match="another member named one"):
            await one.commit(old.upto)
        await new.read(50)
        await new.consumer.commit(new.upto)
        for _ in range(5):  # it is not thrown out in turn
            await new.fetch(0.5)
        await sender.send(events(50, "more"))
        assert len(await new.read(100)) == 50


async def test_a_member_that_comes_back_under_its_name_sees_partitions_that_are_added(kafka: EventsSettings) -> None:
    async with open_kafka_sender(kafka) as sender:
        await sender.send(events(10))
    async with join(kafka) as consumer:
        reader = Reader(consumer)
        await reader.read(10)
        await consumer.commit(reader.upto)
    async with join(kafka) as consumer:  # Kafka keeps it as the group's leader, aiokafka does not know that it is
        async with open_admin(kafka) as admin:
            await admin.create_partitions({f"{kafka.prefix}training_log": NewPartitions(6)})
        async with open_kafka_sender(kafka) as sender:
            await sender.send(events(200, "more", keys=200))
        reader = Reader(consumer)
        await reader.read(200)
        assert {partition.number for partition in reader.upto} == set(range(6))


async def test_what_revoked_raises_comes_out_of_fetch(kafka: EventsSettings) -> None:
    async def revoked(partitions: Collection[Partition]) -> None:
        raise ZeroDivisionError(len(partitions))

    async with join(kafka, revoked=revoked) as one:
        reader = Reader(one)
        await reader.fetch()
        async with AsyncExitStack() as stack, anyio.create_task_group() as group:
            group.start_soon(stack.enter_async_context, join(kafka, member="two"))
            with anyio.fail_after(HANG_S), pytest.raises(ZeroDivisionError):
                await reader.fetch_for_ever()
