"""Every error that a user can see; the runtime prints it as one line, without traceback, and uses its exit code."""

from typing import ClassVar

EXIT_CUT_OFF = 130  # of a process that was cut off; what a shell reports of an interrupted program


class BorgError(Exception):
    """An error the user can fix. The text gives subject, what was found, what was expected, what happens now."""

    exit_code: ClassVar[int] = 1


class SettingsError(BorgError):
    """A setting's value or name is wrong, or settings contradict each other."""

    exit_code = 2


class ServerError(BorgError):
    """Redis is absent, refuses us, is read-only, too old or out of memory."""

    exit_code = 3


class EventLogError(ServerError):
    """The event log is absent, slow, or refuses us; the operation may be tried again."""


class MismatchError(BorgError):
    """Stored data (memory, checkpoint, weights) belongs to another game, preset or run."""

    exit_code = 4


class ReplayTooSmallError(BorgError):
    """Fewer transitions are stored than are needed for a sample."""


class CorruptDataError(BorgError):
    """Bytes from outside are truncated, oversized or not what they claim to be."""
