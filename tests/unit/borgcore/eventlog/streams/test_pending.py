from hypothesis import given
from hypothesis import strategies as st

from borgcore.eventlog.protocol import Partition
from borgcore.eventlog.streams.pending import PendingEntries

PARTITION = Partition("training_log", 0)
NUMBERS = st.integers(0, 12)
STEPS = st.lists(st.tuples(st.sampled_from(["read", "commit", "refused"]), st.lists(NUMBERS, max_size=6)), max_size=30)


def position(number: int) -> str:
    return f"{1_700_000_000_000 + number}-{number % 3}"


@given(STEPS)
def test_what_is_handed_out_is_acknowledged_in_the_order_of_handing_out(
    steps: list[tuple[str, list[int]]],
) -> None:
    pending, model = PendingEntries(PARTITION), list[str]()
    for step, numbers in steps:
        places = [position(number) for number in numbers]
        if step == "read":
            new = [place for row, place in enumerate(places) if place not in model + places[:row]]
            chunk = pending.hand_out((place, {b"v": place.encode()}) for place in places)
            assert chunk.positions == new
            assert chunk.values == [place.encode() for place in new]
            assert chunk.times_ms == [int(place[:13]) for place in new]
            model += new
            continue
        for place in places:
            due = model[: model.index(place) + 1] if place in model else []
            assert pending.upto(place) == due
            if step == "commit":
                pending.remove(due)
                del model[: len(due)]
        assert len(pending) == len(model)


def test_what_was_trimmed_is_not_handed_out_and_what_is_not_ours_has_no_value() -> None:
    pending = PendingEntries(PARTITION)
    chunk = pending.hand_out([("5-0", {}), ("6-1", {b"w": b"x"}), ("7-0", {b"v": b"1", b"w": b"x"})])
    assert (chunk.partition, chunk.positions, chunk.values) == (PARTITION, ["6-1", "7-0"], [None, b"1"])
    assert chunk.times_ms == [6, 7]
    assert len(pending) == 2


def test_removing_what_is_not_held_changes_nothing() -> None:
    pending = PendingEntries(PARTITION)
    pending.hand_out([("5-0", {b"v": b"1"})])
    pending.remove(["4-0", "6-0"])
    assert pending.upto("5-0") == ["5-0"]
