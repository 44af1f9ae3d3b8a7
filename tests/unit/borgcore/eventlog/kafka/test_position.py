"""How a partition is known again, and what may be committed of it."""

from collections.abc import Sequence

from aiokafka import ConsumerRecord

from borgcore.eventlog.kafka.position import LastRecord, PartitionPosition
from borgcore.eventlog.protocol import Chunk, Partition

PARTITION = Partition("training_log", 3)


def record(offset: int, time_ms: int | None = None, value: bytes | None = b"{}") -> ConsumerRecord:
    at = 1_000 + offset if time_ms is None else time_ms
    return ConsumerRecord("p.training_log", 3, offset, at, 0, b"key", value, None, 3, 2, ())


def records(start: int, end: int) -> Sequence[ConsumerRecord]:
    return [record(offset) for offset in range(start, end)]


def test_records_become_columns() -> None:
    reading = PartitionPosition(PARTITION, -1, "")
    assert reading.deliver([record(5), record(9, value=None)]) == [
        Chunk(PARTITION, [5, 9], [1_005, 1_009], [b"{}", None])
    ]
    assert reading.last == LastRecord(9, 1_009)


def test_what_was_committed_is_the_witness_and_is_not_delivered_again() -> None:
    reading = PartitionPosition(PARTITION, 8, "1007")
    assert reading.begin_check() == LastRecord(7, 1_007)
    assert not reading.is_other(record(7))
    assert [chunk.positions for chunk in reading.deliver(records(7, 10))] == [[8, 9]]
    assert reading.begin_check() == LastRecord(9, 1_009)
    assert reading.deliver([record(9)]) == []
    assert [chunk.positions for chunk in reading.deliver(records(10, 11))] == [[10]]


def test_a_witness_of_another_time_is_of_another_partition() -> None:
    reading = PartitionPosition(PARTITION, 8, "1007")
    reading.begin_check()
    assert reading.is_other(record(7, time_ms=2_000))


def test_a_partition_that_goes_back_is_another() -> None:
    reading = PartitionPosition(PARTITION, -1, "")
    reading.deliver(records(0, 5))
    assert not reading.is_other(record(5))
    assert reading.is_other(record(4))
    assert reading.is_other(record(0))


def test_a_witness_that_was_trimmed_says_nothing() -> None:
    reading = PartitionPosition(PARTITION, 8, "1007")
    reading.begin_check()
    assert not reading.is_other(record(20))
    assert [chunk.positions for chunk in reading.deliver(records(20, 22))] == [[20, 21]]


def test_without_metadata_of_ours_there_is_no_witness() -> None:
    for metadata in ("", "lag tool", "-1", "1.5"):
        reading = PartitionPosition(PARTITION, 8, metadata)
        assert reading.begin_check() is None
        assert not reading.is_other(record(8))
        assert reading.committed == 8


def test_only_what_was_delivered_is_found_for_a_commit() -> None:
    reading = PartitionPosition(PARTITION, -1, "")
    reading.deliver(records(0, 5))
    reading.deliver([record(7), record(9)])
    assert reading.find(3) == LastRecord(3, 1_003)
    assert reading.find(4) == LastRecord(4, 1_004)
    assert reading.find(8) is None
    assert reading.find(9) == LastRecord(9, 1_009)
    assert reading.find(9) == LastRecord(9, 1_009)  # a commit that failed is tried again
    assert reading.find(3) is None
    assert reading.find(10) is None


def test_nothing_of_a_partition_that_is_gone_is_found() -> None:
    reading = PartitionPosition(PARTITION, -1, "")
    reading.deliver(records(0, 5))
    assert reading.forget() == PARTITION
    assert reading.find(4) is None
