"""How a replaced partition is detected, and which positions may be committed."""

from collections.abc import Sequence

from aiokafka import ConsumerRecord, OffsetAndMetadata

from borgcore.eventlog.kafka.position import LastRecord, PartitionPosition
from borgcore.eventlog.protocol import Chunk, Partition

PARTITION = Partition("training_log", 3)


def record(offset: int, time_ms: int | None = None, value: bytes | None = b"{}") -> ConsumerRecord:
    at = 1_000 + offset if time_ms is None else time_ms
    return ConsumerRecord("p.training_log", 3, offset, at, 0, b"key", value, None, 3, 2, ())


def records(start: int, end: int) -> Sequence[ConsumerRecord]:
    return [record(offset) for offset in range(start, end)]


def test_records_become_columns() -> None:
    position = PartitionPosition(PARTITION, -1, "")
    assert position.deliver([record(5), record(9, value=None)]) == [
        Chunk(PARTITION, [5, 9], [1_005, 1_009], [b"{}", None])
    ]
    assert position.last == LastRecord(9, 1_009)


def test_the_last_committed_record_is_compared_and_not_delivered_again() -> None:
    position = PartitionPosition(PARTITION, 8, "1007")
    assert position.begin_check() == LastRecord(7, 1_007)
    assert not position.is_other(record(7))
    assert [chunk.positions for chunk in position.deliver(records(7, 10))] == [[8, 9]]
    assert position.begin_check() == LastRecord(9, 1_009)
    assert position.deliver([record(9)]) == []
    assert [chunk.positions for chunk in position.deliver(records(10, 11))] == [[10]]


def test_a_last_record_with_another_timestamp_shows_another_partition() -> None:
    position = PartitionPosition(PARTITION, 8, "1007")
    position.begin_check()
    assert position.is_other(record(7, time_ms=2_000))


def test_a_partition_that_goes_back_is_another() -> None:
    position = PartitionPosition(PARTITION, -1, "")
    position.deliver(records(0, 5))
    assert not position.is_other(record(5))
    assert position.is_other(record(4))
    assert position.is_other(record(0))


def test_a_last_record_that_was_trimmed_proves_nothing() -> None:
    position = PartitionPosition(PARTITION, 8, "1007")
    position.begin_check()
    assert not position.is_other(record(20))
    assert [chunk.positions for chunk in position.deliver(records(20, 22))] == [[20, 21]]


def test_without_metadata_of_ours_there_is_no_last_record() -> None:
    for metadata in ("", "lag tool", "-1", "1.5"):
        position = PartitionPosition(PARTITION, 8, metadata)
        assert position.begin_check() is None
        assert not position.is_other(record(8))
        assert position.committed == 8


def test_only_what_was_delivered_is_found_for_a_commit() -> None:
    position = PartitionPosition(PARTITION, -1, "")
    position.deliver(records(0, 5))
    position.deliver([record(7), record(9)])
    assert position.find(3) == LastRecord(3, 1_003)
    assert position.find(4) == LastRecord(4, 1_004)
    assert position.find(8) is None
    assert position.find(9) == LastRecord(9, 1_009)
    assert position.find(9) == LastRecord(9, 1_009)  # a commit that failed is tried again
    assert position.find(3) is None
    assert position.find(10) is None


def test_nothing_of_a_partition_that_is_gone_is_found() -> None:
    position = PartitionPosition(PARTITION, -1, "")
    position.deliver(records(0, 5))
    assert position.forget() == PARTITION
    assert position.find(4) is None


def test_offsets_without_a_record_are_passed_and_counted_apart_from_losses() -> None:
    position = PartitionPosition(PARTITION, 5, "1004")
    position.deliver([record(5), record(8)])  # 6 and 7 have no record
    position.advance(11)  # neither have 9 and 10
    assert (position.expected, position.take_skipped(), position.take_skipped()) == (11, 4, 0)
    assert position.lose_before(11) == 0
    assert position.lose_before(20) == 9
    assert position.lose_before(20) == 0
    assert position.expected == 20


def test_a_commit_of_the_newest_record_goes_to_the_next_that_is_expected_and_of_another_does_not() -> None:
    position = PartitionPosition(PARTITION, -1, "")
    assert position.caught_up
    position.deliver(records(0, 3))
    position.advance(5)
    assert not position.caught_up
    assert position.commit_upto(LastRecord(1, 1_001)) == OffsetAndMetadata(2, "1001")
    assert position.commit_upto(LastRecord(2, 1_002)) == OffsetAndMetadata(5, "1002")
    position.committed = 5
    assert position.caught_up


def test_a_commit_behind_the_last_record_still_shows_another_partition() -> None:
    position = PartitionPosition(PARTITION, 5, "1002")  # 3 and 4 were markers
    position.begin_check()
    assert not position.is_other(record(5))
    assert position.is_other(record(4))


def test_the_oldest_record_is_the_first_that_is_not_committed() -> None:
    position = PartitionPosition(PARTITION, -1, "")
    assert position.oldest_ms is None
    position.deliver(records(0, 3))
    position.deliver(records(3, 6))
    assert position.oldest_ms == 1_000
    position.committed = 4
    assert position.oldest_ms == 1_004
    position.committed = 6
    assert position.oldest_ms is None
