import pytest
from hypothesis import given
from hypothesis import strategies as st

from borgcli.screen.duration import format_duration, parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("90s", 90), ("10m", 600), ("1h30m", 5400), ("2h", 7200), ("1h5s", 3605), ("1m30", 90), (" 3M ", 180)],
)
def test_a_duration_is_read_as_people_write_it(text: str, seconds: int) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "0s", "ten", "-5", "1.5h", "30m1h", "10 m", "9" * 40, "٣s", "1d"])
def test_what_is_no_duration_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no duration; expected seconds or a form such as 90s, 10m or 1h30m"):
        parse_duration(text)


@given(st.text(max_size=50))
def test_any_text_is_a_positive_duration_or_a_value_error(text: str) -> None:
    try:
        assert parse_duration(text) > 0
    except ValueError as error:
        assert "is no duration" in str(error)  # noqa: PT017  # either outcome is right


@given(st.integers(1, 10**6))
def test_seconds_survive_being_written_as_hours_minutes_and_seconds(seconds: int) -> None:
    hour, minute, second = format_duration(seconds).split(":")
    assert parse_duration(f"{hour}h{minute}m{second}s") == seconds
