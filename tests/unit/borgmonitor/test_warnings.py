import pytest
import structlog

from borgcore.events.monitoring import MemoryWarned
from borgcore.events.schema import Event
from borgmonitor.conditions import Condition
from borgmonitor.warnings import Warnings

HIGH = Condition("memory_high", "much is in use", 95.0, 90.0)
FAILED = Condition("bgsave_failed", "it failed")


@pytest.fixture
def events() -> list[Event]:
    return []


@pytest.fixture
def warnings(events: list[Event]) -> Warnings:
    return Warnings(events.append, clear_s=10.0)


def said(events: list[Event]) -> list[tuple[str, str, str]]:
    return [(event.node, event.kind, event.state) for event in events if isinstance(event, MemoryWarned)]


def test_a_warning_is_said_once_at_its_onset_and_once_at_its_end(warnings: Warnings, events: list[Event]) -> None:
    with structlog.testing.capture_logs() as logs:
        for at_s in range(5):
            warnings.replace("n", [FAILED], float(at_s))
        warnings.replace("n", [], 5.0)
        warnings.replace("n", [], 6.0)
    assert [(log["event"], log["log_level"]) for log in logs] == [
        ("warning_raised", "warning"),
        ("warning_cleared", "info"),
    ]
    assert [logs[0][name] for name in ("node", "kind", "reason")] == ["n", "bgsave_failed", "it failed"]
    assert logs[1]["duration_s"] == 5.0
    assert events == [
        MemoryWarned(node="n", kind="bgsave_failed", state="onset", text="it failed"),
        MemoryWarned(node="n", kind="bgsave_failed", state="clear", text="it failed", duration_s=5.0),
    ]


def test_what_comes_and_goes_ends_when_it_was_gone_for_a_while(warnings: Warnings, events: list[Event]) -> None:
    warnings.replace("n", [HIGH], 0.0)
    warnings.replace("n", [], 9.0)
    warnings.replace("n", [HIGH], 9.5)
    warnings.replace("n", [], 19.0)
    assert said(events) == [("n", "memory_high", "onset")]
    assert warnings.active == [("n", "memory_high")]
    warnings.replace("n", [], 19.5)
    assert said(events)[1:] == [("n", "memory_high", "clear")]
    assert warnings.active == []


def test_servers_and_kinds_are_kept_apart(warnings: Warnings, events: list[Event]) -> None:
    warnings.replace("n", [FAILED, HIGH], 0.0)
    warnings.replace("m", [FAILED], 0.0)
    warnings.replace("n", [HIGH], 1.0)
    assert said(events)[3:] == [("n", "bgsave_failed", "clear")]
    assert warnings.active == [("n", "memory_high"), ("m", "bgsave_failed")]


def test_of_a_lost_server_nothing_else_ends(warnings: Warnings, events: list[Event]) -> None:
    warnings.replace("n", [FAILED], 0.0)
    warnings.add("n", [Condition("server_lost", "no answer")], 1.0)
    assert warnings.active == [("n", "bgsave_failed"), ("n", "server_lost")]
    warnings.replace("n", [FAILED], 2.0)
    assert said(events)[2:] == [("n", "server_lost", "clear")]


def test_what_is_said_of_a_server_that_left_ends(warnings: Warnings, events: list[Event]) -> None:
    warnings.replace("n", [HIGH], 0.0)
    warnings.keep(["n", "m"], 1.0)
    assert len(events) == 1
    warnings.keep(["m"], 2.0)
    assert said(events)[1:] == [("n", "memory_high", "clear")]
