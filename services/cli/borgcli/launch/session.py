"""What the tasks of one ``borg up`` share: how it ends, and the display they report to."""

import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import anyio
from anyio import TASK_STATUS_IGNORED, CancelScope
from anyio.abc import TaskStatus

from borgcli.exit_codes import EXIT_FAILED, EXIT_SERVER
from borgcli.screen.display import Display
from borgcore.errors import EXIT_CUT_OFF

_ONE_PRESS_S = 0.5  # a terminal, uv and a supervisor may each forward the same request


@dataclass(frozen=True)
class Ending:
    """Why a session ended, and the exit code for it."""

    text: str
    exit_code: int = 0


class Session:
    """The end of one ``borg up``: the first ending counts, ``intake`` stops the work, a cut-off stops the waiting."""

    def __init__(self, display: Display) -> None:
        self.display = display
        self.intake = CancelScope()
        self.ending: Ending | None = None
        self.remarks: list[str] = []
        """Problems that did not end the run; repeated at the end."""
        self.impatient = False
        """Whether the user has cut the drain off."""
        self.played = False  # an agent has reported, so there may be something worth keeping
        self._wait = CancelScope()

    @property
    def server_failed(self) -> bool:
        """Return whether it ends because the server failed; no child can drain without the server."""
        return self.ending is not None and self.ending.exit_code == EXIT_SERVER

    def end(self, text: str, exit_code: int = 0) -> None:
        """Begin the drain, unless it has begun."""
        if self.ending is None:
            self.ending = Ending(text, exit_code)
            self.display.show_phase(f"stopping: {text} (Ctrl-C cuts the drain off)")
        self.intake.cancel()

    def fail(self, text: str, exit_code: int = EXIT_FAILED) -> None:
        """Report a failure while draining; an earlier failure keeps its exit code."""
        self.display.say(text)
        if self.ending is None or self.ending.exit_code == 0:
            self.ending = Ending(text, exit_code)

    def remark(self, text: str) -> None:
        """Report a problem that neither ends nor fails the run."""
        self.display.say(text)
        self.remarks.append(text)

    @contextmanager
    def patience(self, wait_s: float) -> Iterator[None]:
        """Limit a part of the drain to ``wait_s``, and end it early if the drain is cut off."""
        with anyio.move_on_after(wait_s) as self._wait:  # parts drain one after the other
            if self.impatient:
                self._wait.cancel()
            yield

    def cut_off(self, text: str) -> None:
        """Record that the drain was cut off; the text names the first process it hit."""
        if self.ending is None or self.ending.exit_code != EXIT_CUT_OFF:
            self.display.say(text)
            self.ending = Ending(text, EXIT_CUT_OFF)

    async def heed_signals(self, *, task_status: TaskStatus[None] = TASK_STATUS_IGNORED) -> None:
        """Drain at the first Ctrl-C, SIGTERM or loss of the terminal; cut off at the second Ctrl-C or SIGTERM."""
        heeded = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # nohup ignores it
            heeded.append(signal.SIGHUP)
        try:
            with anyio.open_signal_receiver(*heeded) as signals:
                task_status.started()
                await self._listen(signals)
        finally:
            for number in heeded:  # everything has ended; a signal must not tear run.json, written next
                signal.signal(number, signal.SIG_IGN)

    async def _listen(self, signals: AsyncIterator[signal.Signals]) -> None:
        first_s: float | None = None
        async for number in signals:
            now_s = anyio.current_time()
            if first_s is None:
                first_s = now_s
                self._begin(number)
            elif now_s - first_s > _ONE_PRESS_S and number != signal.SIGHUP:
                self.impatient = True
                self._wait.cancel()

    def _begin(self, number: signal.Signals) -> None:
        source = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
        if self.ending is not None:
            self.display.say(f"{source}: stopping already; once more cuts it off")
        self.end(f"stopped by {source}")
