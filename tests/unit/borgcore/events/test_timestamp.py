from datetime import UTC, datetime, timedelta, timezone

import pytest

from borgcore.events.timestamp import as_timestamp


@pytest.mark.parametrize(
    ("at", "text"),
    [
        (datetime(2026, 11, 28, 10, tzinfo=UTC), "2026-11-28T10:00:00.000Z"),
        (datetime(2026, 11, 28, 10, 0, 0, 999_999, tzinfo=UTC), "2026-11-28T10:00:00.999Z"),
        (datetime(2026, 11, 28, 0, 30, tzinfo=timezone(timedelta(hours=1))), "2026-11-27T23:30:00.000Z"),
    ],
)
def test_a_time_is_written_in_utc_and_cut_off_at_the_millisecond(at: datetime, text: str) -> None:
    assert as_timestamp(at) == text
