"""Signals that end a benchmark."""

import signal
import sys


def exit_on_sigterm() -> None:
    """Exit on SIGTERM as on Ctrl-C: open blocks are left, so started processes and created topics are removed."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
