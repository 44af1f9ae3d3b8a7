"""A run's folder: its files, and the lock that keeps it from being started twice."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from urllib.parse import quote

from borgcore.errors import BorgError, SettingsError

_ORPHANS_S = 10.0  # time for the children of a killed borg to end
_LOOK_S = 0.05
_WORTH_KEEPING_BYTES = 1 << 20  # of the AOF: functions take a tenth of it, 1,000 transitions more


@dataclass(frozen=True)
class RunFolder:
    """``runs/<run>/`` and its files."""

    path: Path

    @property
    def run(self) -> str:
        """The run's name."""
        return self.path.name

    @property
    def record(self) -> Path:
        """The settings that made the run, and how it ended last."""
        return self.path / "run.json"

    @property
    def valkey(self) -> Path:
        """Valkey's configuration (with its password), log and append-only file."""
        return self.path / "valkey"

    @property
    def checkpoints(self) -> Path:
        """Networks, optimiser and counters, written by the agents."""
        return self.path / "checkpoints"

    @property
    def lock(self) -> Path:
        """Held by borg and its children while any of them lives."""
        return self.path / "lock"

    @property
    def events(self) -> Path:
        """The events that the logshipper stores: SQLite."""
        return self.path / "events.sqlite"

    @property
    def events_url(self) -> str:
        """The same file as the URL of an event store."""
        return f"sqlite:///{quote(os.fsencode(self.events.absolute()))}"

    @property
    def monitor_log(self) -> Path:
        """Everything the monitor wrote."""
        return self.path / "monitor.log"

    @property
    def logshipper_log(self) -> Path:
        """Everything the logshipper wrote."""
        return self.path / "logshipper.log"

    def agent_log(self, slot: int) -> Path:
        """Everything an agent process wrote; restarts append to it."""
        return self.path / f"agent-{slot}.log"

    def holds_memory(self) -> bool:
        """Return whether it holds a checkpoint or more than the first moments of a replay memory."""
        logged = sum(path.stat().st_size for path in self.valkey.rglob("appendonly.aof*"))
        return logged > _WORTH_KEEPING_BYTES or any(path.is_file() for path in self.checkpoints.rglob("*"))

    def create(self) -> None:
        """Make the folder.

        Raises:
            SettingsError: the run exists.
            BorgError: it cannot be made.
        """
        try:
            self.path.mkdir(parents=True)
        except FileExistsError:
            raise SettingsError(
                f"run {self.run} exists already in {self.path}; go on with it by --resume --run {self.run}, "
                "or take another name; nothing was started"
            ) from None
        except OSError as error:
            raise BorgError(f"cannot make {self.path}: {error.strerror}; nothing was started") from None


@contextmanager
def lock_run(folder: RunFolder) -> Iterator[int]:
    """Hold the run; yield the lock's file descriptor, which children inherit so that an orphan still holds it.

    Raises:
        SettingsError: another borg runs it.
    """
    try:
        file = os.open(folder.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise BorgError(f"cannot open {folder.lock}: {error.strerror}; nothing was started") from None
    try:
        _take(file, folder)
        os.truncate(file, 0)
        os.pwrite(file, f"{os.getpid()}\n".encode(), 0)
        yield file
    finally:
        os.close(file)


def is_running(folder: RunFolder) -> bool:
    """Return whether a process holds the run."""
    try:
        file = os.open(folder.lock, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return not _try_lock(file, fcntl.LOCK_SH)
    finally:
        os.close(file)


def _take(file: int, folder: RunFolder) -> None:
    deadline = monotonic() + _ORPHANS_S
    while not _try_lock(file, fcntl.LOCK_EX):
        holder = _read_pid(file)
        if holder is not None and _exists(holder):
            raise SettingsError(
                f"run {folder.run} is running already, as process {holder}; take another name with --run, "
                "or stop that one first; nothing was started"
            )
        if monotonic() > deadline:
            raise SettingsError(
                f"run {folder.run} is still held by a process that an earlier borg left behind; end it first; "
                "nothing was started"
            )
        sleep(_LOOK_S)


def _try_lock(file: int, mode: int) -> bool:
    try:
        fcntl.flock(file, mode | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        pass
    return True


def _read_pid(file: int) -> int | None:
    try:
        return int(os.pread(file, 20, 0))
    except ValueError:  # its holder has not written it yet, or never did
        return None
