import os
import subprocess
import sys

import pytest

from borgcli.launch.parent_death import end_with_parent, end_with_uv
from tests.limits import HANG_S


def test_a_leashed_command_keeps_its_process_and_its_exit_code() -> None:
    command = end_with_parent([sys.executable, "-c", "import os, sys; print(os.getpid()); sys.exit(7)"])
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        written, _ = child.communicate(timeout=HANG_S)
    assert child.returncode == 7
    assert int(written) == child.pid


def test_a_command_that_cannot_start_is_named() -> None:
    command = end_with_parent(["/absent/program"])
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=HANG_S)
    assert ended.returncode == 127
    assert ended.stderr == "cannot start /absent/program: No such file or directory\n"


def test_a_command_whose_parent_is_gone_does_not_start() -> None:
    command = end_with_parent([sys.executable, "-c", "print('started')"])
    position = command.index(str(os.getpid()))
    command[position] = str(os.getppid())  # not ours
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=HANG_S)
    assert ended.returncode == 1
    assert ended.stdout == ""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux names processes this way")
def test_a_test_runner_is_not_taken_for_uv(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getppid", os.getpid)
    assert not end_with_uv()
