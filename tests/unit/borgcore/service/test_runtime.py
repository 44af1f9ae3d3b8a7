"""Real processes of small services; each waits for lines that are written, never for time to pass."""

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from borgcore.errors import BorgError, MismatchError, ServerError
from borgcore.service.runtime import run_service
from borgcore.settings.service import ServiceSettings
from tests.limits import HANG_S

PROGRAM = """
import sys, threading, time
from typing import ClassVar
import anyio
from anyio import CancelScope, to_thread
from borgcore.service import runtime
from borgcore.errors import MismatchError
from borgcore.settings.service import ServiceSettings

class ToySettings(ServiceSettings):
    service: ClassVar[str] = "toy"

def say(word):
    print(word, flush=True)

{serve}

runtime.LAST_MOMENT_S = {last_moment_s}
sys.exit(runtime.run_service(serve, ToySettings))
"""

DRAINS = """
async def serve(settings, intake):
    send, receive = anyio.create_memory_object_stream(10)
    async def store():
        async with receive:
            async for item in receive:
                say(f"stored {item}")
    async with anyio.create_task_group() as stages:
        stages.start_soon(store)
        async with send:
            with intake:
                say("ready")
                await anyio.sleep_forever()
            for item in range(3):
                await send.send(item)
"""
NEVER_DRAINS = """
async def serve(settings, intake):
    with intake:
        say("ready")
        await anyio.sleep_forever()
    say("draining")
    try:
        await anyio.sleep_forever()
    finally:
        say("closed")
"""
STUCK_IN_A_THREAD = """
def work():
    say("draining")
    threading.Event().wait()

async def serve(settings, intake):
    with intake:
        say("ready")
        await anyio.sleep_forever()
    await to_thread.run_sync(work)
"""
STUCK_IN_THE_LOOP = """
async def serve(settings, intake):
    with intake:
        say("ready")
        await anyio.sleep_forever()
    say("draining")
    time.sleep(1000)
"""

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    started: list[subprocess.Popen[str]] = []

    def begin(serve: str, *arguments: str, last_moment_s: float = HANG_S) -> subprocess.Popen[str]:
        program = tmp_path / "toy.py"
        program.write_text(PROGRAM.format(serve=serve, last_moment_s=last_moment_s))
        process = subprocess.Popen(
            [sys.executable, str(program), *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def wait_line(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == f"{line}\n"


def events(errors: str) -> list[str]:
    return [json.loads(line)["event"] for line in errors.splitlines()]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_drains_what_was_taken_in_and_ends_with_0(start: Start, number: signal.Signals) -> None:
    process = start(DRAINS)
    wait_line(process, "ready")
    process.send_signal(number)
    output, errors = process.communicate()
    assert output == "stored 0\nstored 1\nstored 2\n"
    assert process.returncode == 0
    assert events(errors) == ["stop_requested", "service_ended"]
    assert json.loads(errors.splitlines()[0])["signal"] == number.name


def test_a_second_signal_cuts_off_with_130_and_what_is_open_is_closed(start: Start) -> None:
    process = start(NEVER_DRAINS, "--grace-s", "600")
    wait_line(process, "ready")
    process.send_signal(signal.SIGTERM)
    wait_line(process, "draining")
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate()
    assert output == "closed\n"
    assert process.returncode == 130
    assert events(errors) == ["stop_requested", "service_cut_off"]


def test_the_end_of_the_grace_cuts_off_with_130(start: Start) -> None:
    process = start(NEVER_DRAINS, "--grace-s", "0.05")
    wait_line(process, "ready")
    process.send_signal(signal.SIGTERM)
    output, errors = process.communicate()
    assert output == "draining\nclosed\n"
    assert process.returncode == 130
    assert events(errors) == ["stop_requested", "service_cut_off"]


@pytest.mark.parametrize("serve", [STUCK_IN_A_THREAD, STUCK_IN_THE_LOOP])
def test_the_end_of_the_grace_ends_a_process_that_is_stuck(start: Start, serve: str) -> None:
    process = start(serve, "--grace-s", "0.05", last_moment_s=0.2)
    wait_line(process, "ready")
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate()
    assert process.returncode == 130
    last = json.loads(errors.splitlines()[-1])
    assert (last["event"], last["reason"]) == ("service_cut_off", "something is still running after its cancellation")


def test_a_second_signal_ends_a_process_whose_thread_is_stuck(start: Start) -> None:
    process = start(STUCK_IN_A_THREAD, "--grace-s", "600", last_moment_s=0.2)
    wait_line(process, "ready")
    process.send_signal(signal.SIGTERM)
    wait_line(process, "draining")
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate()
    assert process.returncode == 130
    assert events(errors)[-1] == "service_cut_off"


def test_a_users_error_is_one_line_and_its_own_exit_code(start: Start) -> None:
    process = start("async def serve(settings, intake):\n    raise MismatchError('memory holds\\npong')")
    output, errors = process.communicate()
    assert (output, errors) == ("", "borg-toy: memory holds pong\n")
    assert process.returncode == 4


def test_a_wrong_setting_is_one_line_and_exit_code_2(start: Start) -> None:
    process = start(DRAINS, "--grace-s", "soon")
    _, errors = process.communicate()
    assert errors.startswith("borg-toy: grace_s: found 'soon'; ")
    assert errors.count("\n") == 1
    assert process.returncode == 2


def test_a_defect_is_a_log_event_with_its_traceback_and_exit_code_1(start: Start) -> None:
    process = start("async def serve(settings, intake):\n    raise ZeroDivisionError('by nought')")
    _, errors = process.communicate()
    assert process.returncode == 1
    line = json.loads(errors)
    assert (line["event"], line["level"], line["run"]) == ("service_failed", "error", "default")
    assert line["exception"][0]["exc_type"] == "ZeroDivisionError"


class ToySettings(ServiceSettings):
    service: ClassVar[str] = "toy"


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (ServerError("redis is away"), 3),
        (ExceptionGroup("tasks", [ValueError("a defect"), ExceptionGroup("inner", [ServerError("redis is away")])]), 3),
        (ExceptionGroup("tasks", [MismatchError("of pong"), ValueError("a defect")]), 4),
        (BorgError("anything"), 1),
    ],
)
def test_a_users_error_is_found_in_nested_groups(
    capsys: pytest.CaptureFixture[str], failure: Exception, code: int
) -> None:
    async def serve(_settings: ToySettings, _intake: object) -> None:
        raise failure

    assert run_service(serve, ToySettings, []) == code
    assert capsys.readouterr().err.count("\n") == 1


def test_a_service_that_ends_by_itself_leaves_no_timer_behind() -> None:
    async def serve(_settings: ToySettings, _intake: object) -> None:
        return

    assert run_service(serve, ToySettings, []) == 0
    assert not [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)]
