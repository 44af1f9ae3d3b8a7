"""How a session is displayed: a live table on a terminal, plain lines elsewhere."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from time import monotonic
from typing import Protocol

from rich.console import Console
from rich.live import Live
from rich.text import Text

from borgcli.screen.figures import render_line, render_table
from borgcli.screen.progress import RunProgress

LINE_PERIOD_S = 10.0  # of plain progress lines


class Display(Protocol):
    """How a session shows messages, the phase and the progress."""

    def say(self, text: str) -> None:
        """Print a message that stays."""

    def show_phase(self, text: str) -> None:
        """Show the current phase until the next one."""

    def show(self, progress: RunProgress) -> None:
        """Show the progress of the run."""


class SturdyConsole(Console):
    """A console whose reader may go away (``borg up | head``) without ending the run."""

    def on_broken_pipe(self) -> None:
        """Discard further output."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


class TerminalDisplay:
    """A table that is refreshed in place; messages scroll above it."""

    def __init__(self, console: Console, live: Live) -> None:
        self._console = console
        self._live = live
        self._progress: RunProgress | None = None

    def say(self, text: str) -> None:
        """Print above the table."""
        with suppress(OSError):  # the terminal was closed
            self._console.print(Text(text))

    def show_phase(self, text: str) -> None:
        """Show the phase above the newest figures, if there are any."""
        shown = Text(text, style="italic") if self._progress is None else render_table(self._progress, text)
        with suppress(OSError):
            self._live.update(shown, refresh=True)

    def show(self, progress: RunProgress) -> None:
        """Refresh the table."""
        self._progress = progress
        with suppress(OSError):
            self._live.update(render_table(progress), refresh=True)


class PlainDisplay:
    """One line at a time, each with the time of day; progress every ``LINE_PERIOD_S``."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._phase = ""
        self._phase_at_s = self._shown_at_s = float("-inf")
        self._unshown: RunProgress | None = None

    def say(self, text: str) -> None:
        """Print a line."""
        with suppress(OSError):
            self._console.print(Text(f"{datetime.now().astimezone():%H:%M:%S} {text}"), soft_wrap=True, highlight=False)

    def show_phase(self, text: str) -> None:
        """Print a new phase at once, and changes within a phase once per period."""
        kind, now_s = text.split(":", maxsplit=1)[0], monotonic()
        if kind != self._phase or now_s - self._phase_at_s >= LINE_PERIOD_S:
            self._phase, self._phase_at_s = kind, now_s
            self.say(text)

    def show(self, progress: RunProgress) -> None:
        """Print the figures once per period."""
        self._unshown = progress
        if monotonic() - self._shown_at_s >= LINE_PERIOD_S:
            self._shown_at_s = monotonic()
            self.close()

    def close(self) -> None:
        """Print the newest figures, unless they have been printed."""
        if self._unshown is not None:
            self.say(render_line(self._unshown))
            self._unshown = None


@contextmanager
def open_display() -> Iterator[Display]:
    """Choose the display by what standard output is."""
    console = SturdyConsole()
    if not console.is_terminal:
        plain = PlainDisplay(console)
        yield plain
        plain.close()
        return
    live = Live(console=console, auto_refresh=False)
    with suppress(OSError):
        live.start()
    try:
        yield TerminalDisplay(console, live)
    finally:
        with suppress(OSError):
            live.stop()
