"""The line on standard error that says why ``borg`` ends."""

import sys


def print_error(text: str) -> None:
    """Print an error as one line."""
    sys.stderr.write(f"borg: {' '.join(text.split())}\n")
