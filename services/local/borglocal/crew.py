"""The agents of a session: started, restarted when they die, drained at the end."""

import signal
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Protocol

import anyio

from borgcore.runtime import LAST_MOMENT_S
from borglocal.children import Child, describe_exit
from borglocal.session import EXIT_CUT_OFF, EXIT_FAILED, EXIT_SERVER, Session

FINAL_CODES = frozenset({2, 3, 4})  # bad settings, server, mismatch: a restart would meet the same again
MAX_DEATHS = 5
DEATHS_WINDOW_S = 60.0
_FIRST_BACKOFF_S = 0.5  # doubled with every death in the window
_LATE_S = 2 * LAST_MOMENT_S  # beyond the grace, at whose end an agent cuts itself off
_SERVER_DEATH_S = 1.0  # agents may notice the server's death before its parent does


class Server(Protocol):
    """What the crew wants to know of the embedded server."""

    @property
    def child(self) -> Child:
        """Its process."""


class Crew:
    """The agent processes, by slot; which number each one plays under, they settle among themselves."""

    def __init__(self, session: Session, start: Callable[[int], Awaitable[Child]], server: Server | None) -> None:
        self._session = session
        self._start = start
        self._server = server
        self._living: dict[int, Child] = {}

    async def keep(self, slot: int) -> None:
        """Keep one agent alive until the intake is cancelled, it cannot go on, or it dies too often."""
        deaths: deque[float] = deque(maxlen=MAX_DEATHS)
        while True:
            try:
                child = await self._start(slot)
            except OSError as error:  # no space for its log, no process to be had
                self._session.end(f"cannot start agent process {slot}: {error.strerror}", EXIT_FAILED)
                return
            self._living[slot] = child
            returncode = await child.process.wait()
            del self._living[slot]
            words = await child.last_words()
            if returncode in FINAL_CODES:
                await self._give_up(returncode, words)
                return
            deaths.append(anyio.current_time())
            report = f"{child.name} (process {child.process.pid}) {describe_exit(returncode)}: {words}"
            recent = [at_s for at_s in deaths if deaths[-1] - at_s < DEATHS_WINDOW_S]
            if len(recent) == MAX_DEATHS:
                self._session.end(
                    f"{report}; it was death {MAX_DEATHS} within {DEATHS_WINDOW_S:.0f} s, giving up; log: {child.log}",
                    EXIT_FAILED,
                )
                return
            backoff_s = _FIRST_BACKOFF_S * 2 ** (len(recent) - 1)
            self._session.display.say(f"{report}; starting it again in {backoff_s:g} s; its log is {child.log}")
            await anyio.sleep(backoff_s)

    async def _give_up(self, returncode: int, words: str) -> None:
        if returncode == EXIT_SERVER and self._server is not None:
            with anyio.move_on_after(_SERVER_DEATH_S):
                await self._server.child.process.wait()
                await anyio.sleep_forever()  # whoever watches the server says it better
        self._session.end(words, returncode)

    async def drain(self, grace_s: float) -> None:
        """Ask all to drain; kill who does not even cut itself off at its end, or the session's cutoff."""
        children = list(self._living.values())
        if not children:
            return
        for child in children:
            child.terminate()
        with self._session.cutoff, anyio.move_on_after(grace_s + _LATE_S):
            for child in children:
                await child.process.wait()
        late = [child for child in children if not child.ended]
        for child in late:
            child.kill()
        for child in children:
            await child.process.wait()
        if self._session.cutoff.cancelled_caught:
            self._session.cut_off(
                "cut off: the agents were killed; what they learned since their last checkpoint is lost"
            )
            return
        ending = self._session.ending
        if ending is None or ending.exit_code != EXIT_SERVER:  # without their server they cannot drain well
            for child in children:
                await self._judge(child, grace_s, late=child in late)

    async def _judge(self, child: Child, grace_s: float, *, late: bool) -> None:
        """Fail the session where an agent's drain failed."""
        returncode = child.process.returncode or 0
        if late:
            how = f"did not drain within {grace_s:g} s and was killed"
        elif returncode == EXIT_CUT_OFF:
            how = f"did not drain within {grace_s:g} s and cut itself off"
        elif returncode in (0, -signal.SIGTERM):  # SIGTERM met it before it could listen
            return
        else:
            how = f"{describe_exit(returncode)} while draining: {await child.last_words()}"
        self._session.fail(f"{child.name} {how}; log: {child.log}")
