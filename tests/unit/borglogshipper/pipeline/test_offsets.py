from collections import defaultdict

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from borgcore.eventlog.protocol import Partition
from borglogshipper.pipeline.offsets import Offsets, Span

from .fakes import LOG, OTHER

partitions = st.sampled_from([LOG, OTHER])


class LedgerMachine(RuleBasedStateMachine):
    """Compare the offsets with a plain list per partition of records read, and whether each is done."""

    def __init__(self) -> None:
        super().__init__()
        self.offsets = Offsets()
        self.read: dict[Partition, list[Span]] = defaultdict(list)
        self.taken_away: list[Span] = []
        self.next = 0
        self.committed: dict[Partition, int] = defaultdict(lambda: -1)
        self.snapshot: dict[Partition, int] = {}

    @rule(partition=partitions, records=st.integers(1, 5))
    def begin(self, partition: Partition, records: int) -> None:
        self.next += records
        self.read[partition].append(self.offsets.begin(partition, self.next, records))

    @rule(data=st.data())
    def finish_some(self, data: st.DataObject) -> None:
        under_way = [span for spans in self.read.values() for span in spans if not span.done] + self.taken_away
        chosen = data.draw(st.permutations(under_way))[: data.draw(st.integers(0, 3))]
        self.offsets.finish(chosen)
        assert all(span.done for span in chosen)

    @rule()
    def ask(self) -> None:
        self.snapshot = {partition: int(upto) for partition, upto in self.offsets.due().items()}

    @rule()
    def commit_what_was_asked(self) -> None:
        self.offsets.committed(dict(self.snapshot))
        for partition, upto in self.snapshot.items():
            self.committed[partition] = max(self.committed[partition], upto)

    @rule(partition=partitions)
    def forget(self, partition: Partition) -> None:
        self.offsets.forget([partition])
        self.taken_away += self.read.pop(partition, [])
        self.snapshot.pop(partition, None)

    @invariant()
    def due_is_the_contiguous_prefix_that_is_not_committed(self) -> None:
        expected = {}
        for partition, spans in self.read.items():
            for span in spans:
                if not span.done:
                    break
                if int(span.upto) > self.committed[partition]:
                    expected[partition] = span.upto
        assert self.offsets.due() == expected

    @invariant()
    def unfinished_counts_records(self) -> None:
        counts = {
            partition: sum(span.records for span in spans if not span.done) for partition, spans in self.read.items()
        }
        assert self.offsets.unfinished() == sum(counts.values())
        for partition in (LOG, OTHER):
            assert self.offsets.unfinished([partition]) == counts.get(partition, 0)

    @invariant()
    def entered_counts_from_the_first_that_is_open(self) -> None:
        entered = 0
        for spans in self.read.values():
            first = next((place for place, span in enumerate(spans) if not span.done), len(spans))
            entered += sum(span.records for span in spans[first:])
        assert self.offsets.entered == entered


TestLedger = LedgerMachine.TestCase
TestLedger.settings = settings(max_examples=50, stateful_step_count=30, deadline=None)


def test_what_is_done_behind_something_open_is_not_due() -> None:
    offsets = Offsets()
    first, second = offsets.begin(LOG, 10, 10), offsets.begin(LOG, 20, 10)
    offsets.finish([second])
    assert offsets.due() == {}
    offsets.finish([first])
    assert offsets.due() == {LOG: 20}


def test_what_became_due_during_a_commit_stays_due() -> None:
    offsets = Offsets()
    offsets.finish([offsets.begin(LOG, 10, 10)])
    due = offsets.due()
    offsets.finish([offsets.begin(LOG, 20, 10)])
    offsets.committed(due)
    assert offsets.due() == {LOG: 20}


def test_a_batch_that_ends_after_its_partition_was_taken_away_changes_nothing() -> None:
    offsets = Offsets()
    old = offsets.begin(LOG, "1-0", 1)
    offsets.forget([LOG])
    new = offsets.begin(LOG, "0-9", 1)
    offsets.finish([old])
    assert offsets.due() == {}
    assert offsets.unfinished() == 1
    offsets.finish([new])
    assert offsets.due() == {LOG: "0-9"}


def test_nothing_is_kept_of_what_was_committed() -> None:
    offsets = Offsets()
    for upto in range(1_000):
        offsets.finish([offsets.begin(LOG, upto, 1)])
        offsets.committed(offsets.due())
    assert not offsets._open[LOG]
    assert not offsets._due
