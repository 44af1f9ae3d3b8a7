"""SIGTERM ends a benchmark as Ctrl-C does: the processes it started are stopped, its files and topics deleted."""

import signal
import sys


def exit_on_sigterm() -> None:
    """Raise SystemExit in the main thread on SIGTERM, so that context managers and ``finally`` blocks run."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
