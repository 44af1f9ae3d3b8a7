import os
import sys
from pathlib import Path

import anyio
import pytest
from anyio import to_thread

from borgcli.launch.child import describe_exit, start_child
from tests.limits import HANG_S

FAILS = """
import sys
print('{"event": "agent_started"}')
print('borg-agent: no such game', file=sys.stderr)
sys.exit(2)
"""
DEFECT = """print('{"event": "service_failed", "exception": [{"exc_type": "ValueError", "exc_value": "no"}]}')"""


@pytest.mark.parametrize(
    ("program", "words"),
    [
        (FAILS, "borg-agent: no such game"),
        (DEFECT, "service_failed: ValueError: no"),
        ('print(\'{"event": "agent_ended"}\')', "agent_ended"),
        ("print('{half')", "{half"),
        ("", "it wrote nothing"),
    ],
)
async def test_a_childs_last_words_are_its_error_not_its_log(tmp_path: Path, program: str, words: str) -> None:
    log = tmp_path / "log"
    log.write_text("of an earlier start\n")
    with anyio.fail_after(HANG_S):
        child = await start_child("one", [sys.executable, "-c", program], log)
        await child.process.wait()
        assert await child.last_words() == words


async def test_a_child_has_a_session_of_its_own_and_can_be_killed_with_all_in_it(tmp_path: Path) -> None:
    program = (
        "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'input()'], stdin=subprocess.PIPE); input()"
    )
    with anyio.fail_after(HANG_S):
        child = await start_child(
            "one", ["sh", "-c", f'exec {sys.executable} -c "{program}" < /dev/zero'], tmp_path / "log"
        )
        assert os.getsid(child.process.pid) == child.process.pid
        child.kill()
        assert await child.process.wait() == -9
    child.terminate()  # harmless now


async def test_children_start_from_the_main_thread_only(tmp_path: Path) -> None:
    def start() -> None:
        anyio.run(start_child, "one", ["true"], tmp_path / "log")

    with pytest.raises(RuntimeError, match="children start from the main thread"):
        await to_thread.run_sync(start)


@pytest.mark.parametrize(
    ("code", "text"),
    [(0, "ended with exit code 0"), (-9, "was ended by SIGKILL"), (-99, "was ended by signal 99")],
)
def test_an_exit_is_described_in_words(code: int, text: str) -> None:
    assert describe_exit(code) == text
