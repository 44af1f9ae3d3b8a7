"""The exit codes of ``borg``: those of its errors, and those that only a run ends with."""

from borgcore.errors import EXIT_CUT_OFF, BorgError, MismatchError, ServerError, SettingsError

EXIT_FAILED = BorgError.exit_code
EXIT_SETTINGS = SettingsError.exit_code
EXIT_SERVER = ServerError.exit_code
EXIT_MISMATCH = MismatchError.exit_code
EXIT_TOO_EARLY = 5  # --for ended before --until-return was reached

_MEANINGS = {
    0: "ended as asked: time over, return reached, or drained after Ctrl-C",
    EXIT_FAILED: "something failed",
    EXIT_SETTINGS: "bad settings",
    EXIT_SERVER: "the server failed",
    EXIT_MISMATCH: "what is stored belongs to something else",
    EXIT_TOO_EARLY: "the time was over before the return was reached",
    EXIT_CUT_OFF: "cut off by a second Ctrl-C",
}


def describe_exit_codes() -> str:
    """List the codes with their meanings, as the help of ``borg up`` shows them."""
    return "\n\n".join(["Exit codes:", *(f"{code} {meaning}" for code, meaning in _MEANINGS.items())])
