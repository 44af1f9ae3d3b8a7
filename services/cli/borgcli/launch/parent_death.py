"""End children with their parent, even if the parent is killed with -9.

``python -m borgcli.launch.parent_death PARENT COMMAND...`` asks the kernel (Linux only) to kill the process when its
parent ends, checks that the parent is still there, and becomes COMMAND. The kernel watches the parent's *thread*, so
start children from the main thread only. The request survives exec, so COMMAND needs no support for it.
"""

import ctypes
import os
import signal
import sys
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_CANNOT_START = 127  # as a shell reports a program it cannot start
_ORPHANED = 1


def end_with_parent(command: list[str]) -> list[str]:
    """Return ``command`` wrapped so that it ends with this process."""
    return [sys.executable, "-P", "-m", "borgcli.launch.parent_death", str(os.getpid()), *command]


def end_with_uv() -> bool:
    """Ask for SIGTERM when the ``uv run`` that started us is killed with -9 and cannot forward a signal.

    Only for uv: a shell may legitimately end before us, as under nohup.

    Returns:
        Whether uv started us.
    """
    parent = os.getppid()
    if sys.platform != "linux" or _name_of(parent) != "uv":
        return False
    _ask_kernel(signal.SIGTERM)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGTERM)
    return True


def _name_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def _ask_kernel(death_signal: signal.Signals) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)


def _main(parent: int, command: list[str]) -> int:
    if sys.platform == "linux":
        # SIGKILL, not SIGTERM: nobody is left to cut off a hanging drain. The work since the last checkpoint is
        # lost, but nothing of Valkey: it hands its log to the kernel before it answers.
        _ask_kernel(signal.SIGKILL)
    if os.getppid() != parent:
        return _ORPHANED
    try:
        os.execvp(command[0], command)  # noqa: S606  # that is the job
    except OSError as error:
        sys.stderr.write(f"cannot start {command[0]}: {error.strerror}\n")
        return _CANNOT_START


if __name__ == "__main__":
    sys.exit(_main(int(sys.argv[1]), sys.argv[2:]))
