"""Child processes of one kind: started, restarted when they die, drained at the end."""

import signal
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Protocol

import anyio
from anyio import CancelScope

from borgcli.exit_codes import EXIT_FAILED, EXIT_MISMATCH, EXIT_SERVER, EXIT_SETTINGS
from borgcli.launch.child import Child, describe_exit
from borgcli.launch.session import Session
from borgcli.launch.specs import ChildSpec
from borgcore.errors import EXIT_CUT_OFF
from borgcore.service.runtime import LAST_MOMENT_S

FINAL_CODES = frozenset({EXIT_SETTINGS, EXIT_SERVER, EXIT_MISMATCH})  # a restart would fail the same way
MAX_DEATHS = 5
DEATHS_WINDOW_S = 60.0
_FIRST_BACKOFF_S = 0.5  # doubled with every death in the window
_LATE_S = 2 * LAST_MOMENT_S  # beyond the grace: time for a service to cut itself off
_SERVER_DEATH_S = 1.0  # agents may notice the server's death before its parent does


class EmbeddedServer(Protocol):
    """What the group needs to know about the embedded server."""

    @property
    def child(self) -> Child:
        """Its process."""


class ChildGroup:
    """Interchangeable processes; agents agree on their numbers among themselves.

    A ``vital`` group ends the session when it cannot go on and fails it when it cannot drain. For any other group both
    are remarks that leave the run's exit code alone: training matters more than watching it.
    """

    def __init__(
        self,
        session: Session,
        start: Callable[[ChildSpec], Awaitable[Child]],
        server: EmbeddedServer | None,
        *,
        vital: bool,
    ) -> None:
        self.began = False
        self._session = session
        self._start = start
        self._server = server
        self._vital = vital
        self._kept: set[str] = set()
        self._living: dict[str, Child] = {}

    @property
    def works(self) -> bool:
        """Return whether any process is alive or about to be restarted."""
        return bool(self._kept)

    @asynccontextmanager
    async def running(self, grace_s: float) -> AsyncIterator[Callable[[Sequence[ChildSpec]], None]]:
        """Yield a start function. Crashed processes restart inside the block; all drain on exit."""
        try:
            async with anyio.create_task_group() as keepers:

                def begin(specs: Sequence[ChildSpec]) -> None:
                    for spec in specs:
                        self.began = True
                        self._kept.add(spec.name)
                        keepers.start_soon(self._keep, spec)

                try:
                    yield begin
                finally:
                    keepers.cancel_scope.cancel()
        finally:
            with CancelScope(shield=True):
                await self._drain(grace_s)

    async def _keep(self, spec: ChildSpec) -> None:
        """Keep one process running until cancelled, until a restart is useless, or until it dies too often."""
        deaths: deque[float] = deque(maxlen=MAX_DEATHS)
        while True:
            try:
                child = await self._start(spec)
            except OSError as error:  # no space for its log, or no process left
                self._give_up(spec, f"cannot start {spec.name}: {error.strerror}", EXIT_FAILED)
                return
            self._living[spec.name] = child
            returncode = await child.process.wait()
            del self._living[spec.name]
            words = await child.last_words()
            if returncode in FINAL_CODES:
                await self._defer_to_server(returncode)
                self._give_up(spec, words, returncode)
                return
            deaths.append(anyio.current_time())
            report = f"{child.name} (process {child.process.pid}) {describe_exit(returncode)}: {words}"
            recent = [at_s for at_s in deaths if deaths[-1] - at_s < DEATHS_WINDOW_S]
            if len(recent) == MAX_DEATHS:
                often = f"it was death {MAX_DEATHS} within {DEATHS_WINDOW_S:.0f} s, giving up; log: {child.log}"
                self._give_up(spec, f"{report}; {often}", EXIT_FAILED)
                return
            backoff_s = _FIRST_BACKOFF_S * 2 ** (len(recent) - 1)
            self._session.display.say(f"{report}; starting it again in {backoff_s:g} s; its log is {child.log}")
            await anyio.sleep(backoff_s)

    async def _defer_to_server(self, returncode: int) -> None:
        if returncode == EXIT_SERVER and self._server is not None:
            with anyio.move_on_after(_SERVER_DEATH_S):
                await self._server.child.process.wait()
                await anyio.sleep_forever()  # the watcher of the server explains it better

    def _give_up(self, spec: ChildSpec, text: str, exit_code: int) -> None:
        self._kept.discard(spec.name)
        if self._vital:
            self._session.end(text, exit_code)
        elif not self._session.server_failed:
            self._session.remark(f"{text}; the run goes on without {spec.name}")

    async def _drain(self, grace_s: float) -> None:
        """Ask all to drain; kill those that outlast the grace, and all of them when the drain is cut off."""
        children = list(self._living.values())
        for child in children:
            child.terminate()
        with self._session.patience(grace_s + _LATE_S):
            for child in children:
                await child.process.wait()
        late = [child for child in children if not child.ended]
        for child in late:
            child.kill()
        for child in children:
            await child.process.wait()
        if late and self._session.impatient:
            lost = "the agents were killed; what they learned since their last checkpoint is lost"
            self._session.cut_off(f"cut off: {lost if self._vital else f'{late[0].name} was killed'}")
        elif not self._session.server_failed:  # without the server no child can drain
            for child in children:
                await self._judge(child, grace_s, late=child in late)

    async def _judge(self, child: Child, grace_s: float, *, late: bool) -> None:
        """Report a child whose drain failed."""
        returncode = child.process.returncode or 0
        if late:
            how = f"did not drain within {grace_s:g} s and was killed"
        elif returncode == EXIT_CUT_OFF:
            how = f"did not drain within {grace_s:g} s and cut itself off"
        elif returncode in (0, -signal.SIGTERM):  # SIGTERM arrived before it had a handler
            return
        else:
            how = f"{describe_exit(returncode)} while draining: {await child.last_words()}"
        say = self._session.fail if self._vital else self._session.remark
        say(f"{child.name} {how}; log: {child.log}")
