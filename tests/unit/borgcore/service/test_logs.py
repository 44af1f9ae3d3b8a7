import json

import pytest
import structlog

from borgcore.service.logs import configure_logs

PASSWORD = "hunter2"


def fail_holding_a_secret() -> None:
    password = PASSWORD
    raise RuntimeError(f"connection of {len(password)} refused")


def log_a_defect() -> None:
    try:
        fail_holding_a_secret()
    except RuntimeError as error:
        structlog.get_logger().error("service_failed", exc_info=error)


def test_a_json_line_carries_time_level_event_context_and_fields(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    configure_logs("info", "json", service="agent", run="r1")
    structlog.get_logger().info("batch_shipped", duration_ms=12)
    line = json.loads(capfdbinary.readouterr().err)
    assert line.pop("@timestamp").endswith("Z")
    assert line == {"event": "batch_shipped", "level": "info", "service": "agent", "run": "r1", "duration_ms": 12}


def test_events_below_the_level_are_not_written(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    configure_logs("warning", "json")
    structlog.get_logger().info("batch_shipped")
    assert capfdbinary.readouterr().err == b""


def test_auto_is_json_where_standard_error_is_no_terminal(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    configure_logs("info", "auto")
    structlog.get_logger().info("batch_shipped")
    assert json.loads(capfdbinary.readouterr().err)["event"] == "batch_shipped"


def test_console_lines_are_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("info", "console", service="agent")
    structlog.get_logger().info("batch_shipped", documents=500)
    text = capsys.readouterr().err
    assert "batch_shipped" in text
    assert not text.startswith("{")


def test_a_traceback_in_json_shows_where_but_no_local_variables(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    configure_logs("info", "json")
    log_a_defect()
    written = capfdbinary.readouterr().err
    assert json.loads(written)["exception"][0]["frames"][-1]["name"] == "fail_holding_a_secret"
    assert PASSWORD.encode() not in written


def test_a_traceback_on_a_terminal_shows_no_local_variables(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("info", "console")
    log_a_defect()
    written = capsys.readouterr().err
    assert "fail_holding_a_secret" in written
    assert PASSWORD not in written
