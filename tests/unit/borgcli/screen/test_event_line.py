import json

import pytest

from borgcli.screen.event_line import render_event
from borgcore.errors import CorruptDataError

EPISODE = {
    "@timestamp": "2026-11-22T12:00:01.500Z",
    "event_id": "01a2",
    "event": "episode_ended",
    "schema": 1,
    "run": "one",
    "agent": 3,
    "episode_return": -20.123456,
    "steps": 123456,
    "duration_s": 98765.4321,
    "truncated": False,
}


def line_of(**fields: object) -> str:
    return render_event(json.dumps({**EPISODE, **fields})).plain


def test_a_line_has_time_agent_and_name_and_numbers_that_can_be_read() -> None:
    assert line_of().endswith(
        "  agent 3   episode_ended     episode_return=-20.12  steps=123456  duration_s=98765  truncated=false"
    )
    assert line_of()[:11] == "2026-11-22 "
    assert "event_id" not in line_of()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("asked", "x=asked"),
        ("no such game", 'x="no such game"'),
        ("", 'x=""'),
        ("\x1b[2Jgone\n", 'x="\\u001b[2Jgone\\n"'),
        ("\x9b2J", 'x="\\u009b2J"'),
        ({"a": 1}, 'x={"a": 1}'),
        ({"a": "b" * 100}, "x={…}"),
        (["b" * 100], "x=[…]"),
        (0.000012345, "x=1.234e-05"),
    ],
)
def test_a_value_stays_on_its_line_and_commands_nothing(value: object, text: str) -> None:
    assert line_of(x=value).endswith("  " + text)


def test_names_that_would_command_the_terminal_are_escaped_too() -> None:
    line = line_of(**{"event": "\x1b[2J", "agent": "\x1b[2J", "@timestamp": "\x1b[2J", "\x1b[2J": 1})
    assert "\x1b" not in line


def test_a_sample_of_the_memory_shows_what_one_watches_and_that_there_is_more() -> None:
    line = line_of(event="memory_sampled", agent=None, replay_transitions=5, redis_rdb_bgsave_in_progress=0)
    assert line.endswith("  replay_transitions=5  …")


def test_an_event_without_agent_or_time_is_shown_all_the_same() -> None:
    assert render_event('{"event": "x", "a": 1}').plain.split() == ["null", "x", "a=1"]


@pytest.mark.parametrize("document", ["", "{", "[]", "1"])
def test_what_is_no_event_is_named(document: str) -> None:
    with pytest.raises(CorruptDataError, match=r"an event is no JSON object: .*; --json shows all as stored"):
        render_event(document)
