"""Every error a user can meet; the runtime prints its text as one line and ends with its exit code, no traceback."""

from typing import ClassVar


class BorgError(Exception):
    """Something the user can mend. The text says subject, what was found, what was expected, what happens now."""

    exit_code: ClassVar[int] = 1


class SettingsError(BorgError):
    """A setting's value or name is wrong, or settings contradict each other."""

    exit_code = 2


class ServerError(BorgError):
    """Redis is absent, refuses us, is read-only, too old or out of memory."""

    exit_code = 3


class EventLogError(ServerError):
    """The event log is absent, slow, or refuses us; what was to be sent or read may be tried again."""


class MismatchError(BorgError):
    """What is stored (memory, checkpoint, weights) belongs to another game, preset or run."""

    exit_code = 4


class ReplayTooSmallError(BorgError):
    """Fewer transitions are stored than are needed for a sample."""


class CorruptDataError(BorgError):
    """Bytes from outside are truncated, oversized or not what they claim to be."""
