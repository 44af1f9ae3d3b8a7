"""``borg events``: print the events of a run, as stored or formatted for reading."""

import os
import select
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import sleep
from typing import Annotated

import typer
from rich.console import Console

from borgcli.options import RunsFolder
from borgcli.screen.duration import parse_duration
from borgcli.screen.event_line import render_event
from borgcore.errors import BorgError, SettingsError
from borgcore.events.topics import DEAD_LETTER, RECORD_REFUSED, Topic
from borgcore.eventstore.reader import EventFilter, EventReader
from borgcore.run.folder import RunFolder

FOLLOW_PERIOD_S = 0.5  # between checks for new events
_TERMINAL_LEFT = select.POLLERR | select.POLLHUP


def show_events(  # noqa: PLR0917  # typer gives options by name
    run: Annotated[str | None, typer.Option(metavar="NAME", show_default="the newest", help="Name of the run.")] = None,
    topic: Annotated[Topic | None, typer.Option(show_default="both", help="Only the events of this topic.")] = None,
    dead_letters: Annotated[
        bool, typer.Option("--dead-letters", help="Records that could not be stored instead, with the reason.")
    ] = False,
    agent: Annotated[int | None, typer.Option(min=1, metavar="N", help="Only the events of agent N.")] = None,
    event: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only events of this name, such as episode_ended.")
    ] = None,
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="Only events of the newest 90, 90s, 10m, 1h30m.")
    ] = None,
    last: Annotated[int | None, typer.Option("--last", "-n", min=0, metavar="N", help="Only the newest N.")] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with new ones as they come, until Ctrl-C.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="JSON, one event a line, as stored; the default but on a terminal.")
    ] = False,
    runs: RunsFolder = Path("runs"),
) -> None:
    """Print what happened in a run, oldest first: its agents' episodes and reports, and the memory's figures."""
    from borgcore.run.record import find_run

    begin = None if since is None else _begin_of(since)
    wanted = EventFilter(topic, agent, event, begin)
    if dead_letters:
        if wanted != EventFilter(since=begin):
            raise SettingsError(
                "--dead-letters: found --topic, --agent or --event beside it, expected it with --since and --last "
                "alone; nothing was printed"
            )
        wanted = EventFilter(DEAD_LETTER, event=RECORD_REFUSED, since=begin)  # found by the index of events
    printer = Printer(find_run(runs, run), wanted, last, _choose_printer(as_json=as_json))
    try:
        if follow:
            printer.follow()
        else:
            printer.print_all()
        sys.stdout.flush()
    except BrokenPipeError:  # the reader has closed the pipe
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())  # Python flushes once more at exit
        os.close(nowhere)


@dataclass(frozen=True)
class Printer:
    """Prints the wanted events of one run, once or until stopped."""

    folder: RunFolder
    wanted: EventFilter
    last: int | None
    show: Callable[[str], None]

    def print_all(self) -> None:
        """Print the events stored so far.

        Raises:
            BorgError: there is nothing yet, or it cannot be read.
        """
        with self._open() as reader:
            if reader is None:
                raise BorgError(
                    f"run {self.folder.run} has no events in {self.folder.events} yet; --follow waits for them"
                )
            self._begin(reader)
            self._print(reader)

    def follow(self) -> None:
        """Print the stored events, then new ones, until Ctrl-C or until the reader of standard output is gone."""
        try:
            while not _reader_left():
                with self._open() as reader:
                    if reader is None:
                        sleep(FOLLOW_PERIOD_S)
                        continue
                    self._begin(reader)
                    while not _reader_left():
                        self._print(reader)
                        sleep(FOLLOW_PERIOD_S)
        except KeyboardInterrupt:
            return

    def _open(self) -> AbstractContextManager[EventReader | None]:
        from borgcore.eventstore.open import open_reader

        return open_reader(self.folder.events_url, self.wanted)

    def _begin(self, reader: EventReader) -> None:
        if self.last is not None:
            reader.skip_to_last(self.last)

    def _print(self, reader: EventReader) -> None:
        for document in reader.read():
            self.show(document)
        sys.stdout.flush()


def _choose_printer(*, as_json: bool) -> Callable[[str], None]:
    if as_json or not sys.stdout.isatty():
        return _print_json
    console = Console()
    return lambda document: console.print(render_event(document), soft_wrap=True, highlight=False)


def _print_json(document: str) -> None:
    sys.stdout.buffer.write(document.encode() + b"\n")


def _reader_left() -> bool:
    """Return whether the reader of standard output is gone; without new events a write would not reveal it."""
    poller = select.poll()
    poller.register(sys.stdout.fileno(), 0)
    return any(flags & _TERMINAL_LEFT for _, flags in poller.poll(0))


def _begin_of(since: str) -> datetime:
    try:
        return datetime.now(UTC) - timedelta(seconds=parse_duration(since))
    except ValueError as error:
        raise SettingsError(f"--since: {error}; nothing was started") from None
