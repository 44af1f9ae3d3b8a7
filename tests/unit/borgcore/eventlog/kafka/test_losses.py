from borgcore.eventlog.kafka.losses import COMPACTED, DELETED, LossCounter
from borgcore.eventlog.protocol import Loss, Partition

ONE, TWO = Partition("training_log", 0), Partition("memory_monitoring", 0)


def test_losses_are_summed_and_taken_once() -> None:
    losses = LossCounter()
    for partition, records in ((ONE, 3), (TWO, 1), (ONE, 4), (TWO, 0), (ONE, -2)):
        losses.add(partition, records, DELETED)
    assert losses.take() == [Loss(ONE, 7, DELETED), Loss(TWO, 1, DELETED)]
    assert losses.take() == []


def test_gaps_are_losses_in_compacted_topics_alone() -> None:
    losses = LossCounter()
    losses.compacted = {TWO.topic}
    losses.add_skipped(ONE, 5)
    losses.add_skipped(TWO, 5)
    assert losses.take() == [Loss(TWO, 5, COMPACTED)]
