"""Child processes: each in its own session, ended by the kernel when borg ends, writing to one log file."""

import os
import signal
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from subprocess import DEVNULL, STDOUT
from typing import Any

import anyio
import orjson
from anyio import CancelScope, to_thread
from anyio.abc import Process

from borgcli.launch.parent_death import end_with_parent

_TAIL_BYTES = 64 << 10
_MAX_SHOWN = 500  # characters of a child's last line


@dataclass(frozen=True)
class Child:
    """A started process and its log file."""

    name: str
    process: Process
    log: Path
    log_start_bytes: int

    @property
    def ended(self) -> bool:
        """Whether it has ended."""
        return self.process.returncode is not None

    def terminate(self) -> None:
        """Ask it to drain."""
        with suppress(ProcessLookupError):
            self.process.terminate()

    def kill(self) -> None:
        """Kill it and everything it started in its session."""
        if not self.ended:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)

    async def tail(self) -> list[str]:
        """Return the newest lines of this process, oldest first."""
        return await to_thread.run_sync(_read_tail, self.log, self.log_start_bytes)

    async def last_words(self) -> str:
        """Return the line that explains its end: the newest plain line, else the newest log event."""
        lines = await self.tail()
        plain = [line for line in lines if not line.startswith("{")]
        if plain:
            return plain[-1][:_MAX_SHOWN]
        return _describe_event(lines[-1])[:_MAX_SHOWN] if lines else "it wrote nothing"


async def start_child(
    name: str, command: Sequence[str], log: Path, *, env: Mapping[str, str] | None = None, lock_file: int | None = None
) -> Child:
    """Start a process that ends when this one does; append its output to ``log``. ``env`` defaults to ours.

    A cancellation waits until the process has started, so no started process is ever lost.
    """
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("children start from the main thread: the kernel ends them with the thread, not the process")
    with CancelScope(shield=True):
        output, start_bytes = await to_thread.run_sync(_open_log, log)
        try:
            process = await anyio.open_process(
                end_with_parent(list(command)),
                stdin=DEVNULL,
                stdout=output,
                stderr=STDOUT,
                env=env,
                start_new_session=True,
                pass_fds=() if lock_file is None else (lock_file,),
            )
        finally:
            os.close(output)
    return Child(name, process, log, start_bytes)


def describe_exit(returncode: int) -> str:
    """Describe how a process ended."""
    if returncode >= 0:
        return f"ended with exit code {returncode}"
    try:
        return f"was ended by {signal.Signals(-returncode).name}"
    except ValueError:
        return f"was ended by signal {-returncode}"


def _open_log(path: Path) -> tuple[int, int]:
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    return file, os.fstat(file).st_size


def _read_tail(path: Path, start_bytes: int) -> list[str]:
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(start_bytes, size - _TAIL_BYTES))
            text = file.read(_TAIL_BYTES).decode(errors="replace")
    except OSError:
        return []
    return [line.rstrip() for line in text.splitlines() if line.strip()]


def _describe_event(line: str) -> str:
    """Turn a JSON log event into a sentence; an exception in it takes precedence."""
    try:
        event: dict[str, Any] = orjson.loads(line)
        exceptions = event.get("exception")
        if exceptions:
            newest = exceptions[-1]
            return f"{event['event']}: {newest['exc_type']}: {newest['exc_value']}"
        return str(event["event"])
    except (orjson.JSONDecodeError, LookupError, TypeError, AttributeError):
        return line
