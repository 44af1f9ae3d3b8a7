"""Counts the records that Kafka deleted before the group had read them."""

from collections import Counter

from borgcore.eventlog.protocol import Loss, Partition

DELETED, COMPACTED, REPLACED = "deleted_unread", "compacted", "topic_replaced"


class LossCounter:
    """Losses by partition and reason, until they are taken."""

    def __init__(self) -> None:
        self.compacted: set[str] = set()
        """Topics, without prefix, in which an offset without a record means that compaction has deleted it."""
        self._lost: Counter[tuple[Partition, str]] = Counter()

    def add(self, partition: Partition, records: int, reason: str) -> None:
        """Count lost records; none is no loss."""
        if records > 0:
            self._lost[partition, reason] += records

    def add_skipped(self, partition: Partition, offsets: int) -> None:
        """Count offsets without a record as losses if their topic is compacted, else take them for transactions'."""
        if partition.topic in self.compacted:
            self.add(partition, offsets, COMPACTED)

    def take(self) -> list[Loss]:
        """Return the losses counted since the last call."""
        lost, self._lost = self._lost, Counter()
        return [Loss(partition, records, reason) for (partition, reason), records in lost.items()]
