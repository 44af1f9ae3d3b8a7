import pytest

from borgcore.eventlog.streams.fetch_size import FIRST_ENTRIES, MOST_ENTRIES, REPLY_BYTES, FetchSize


def entries(count: int, size_bytes: int) -> list[dict[bytes, bytes] | None]:
    return [{b"v": bytes(size_bytes)}] * count


@pytest.mark.parametrize(
    ("share", "expected"),
    [(1, [64, 256, MOST_ENTRIES, MOST_ENTRIES, MOST_ENTRIES]), (2, [64, 128, 256, MOST_ENTRIES, MOST_ENTRIES])],
    ids=["all streams", "one of two"],
)
def test_replies_of_small_entries_grow_up_to_a_bound(share: int, expected: list[int]) -> None:
    fetch_size, asked = FetchSize(), []
    for _ in range(5):
        asked.append(fetch_size.entries)
        fetch_size.learn(entries(fetch_size.entries // share, 300))
    assert asked == expected


@pytest.mark.parametrize(("size_bytes", "fitting"), [(100_000, 41), (1 << 20, 4), (REPLY_BYTES, 1), (1 << 25, 1)])
def test_large_entries_make_the_next_reply_as_short_as_they_ask(size_bytes: int, fitting: int) -> None:
    fetch_size = FetchSize()
    for _ in range(4):
        fetch_size.learn(entries(fetch_size.entries, 300))
    fetch_size.learn(entries(3, size_bytes))
    assert fetch_size.entries == fitting
    fetch_size.learn(entries(1, 300))
    assert fetch_size.entries == FIRST_ENTRIES


def test_small_replies_keep_the_fetch_size_small_and_empty_ones_do_not_change_it() -> None:
    fetch_size = FetchSize()
    for _ in range(4):
        fetch_size.learn(entries(fetch_size.entries, 300))
    fetch_size.learn([])
    assert fetch_size.entries == MOST_ENTRIES
    fetch_size.learn(entries(2, 300))
    assert fetch_size.entries == FIRST_ENTRIES


def test_entries_that_were_trimmed_have_no_size() -> None:
    fetch_size = FetchSize()
    fetch_size.learn([None, {}, *entries(2, 1 << 20)])
    assert fetch_size.entries == 8
