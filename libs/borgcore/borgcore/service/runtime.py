"""Runs any service: loads settings, sets up logging, handles signals and returns the exit code.

Shutdown is dataflow. A service reads inside ``with intake:``. The first SIGINT or SIGTERM cancels ``intake``, and
work already taken in drains through the later stages. A second signal, or ``grace_s`` seconds, cancels that work as
well. Worker threads and shielded closing of connections cannot be cancelled; if any is still running
``LAST_MOMENT_S`` later, the process exits without waiting for it.
"""

import os
import signal
import sys
import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import anyio
import structlog
from anyio import CancelScope
from anyio.abc import TaskStatus

from borgcore.connection.failures import user_error
from borgcore.errors import EXIT_CUT_OFF, BorgError
from borgcore.service.logs import configure_logs
from borgcore.settings.service import ServiceSettings

LAST_MOMENT_S = 1.0  # from the cut-off to the exit of a process in which something cannot be cancelled

SettingsT = TypeVar("SettingsT", bound=ServiceSettings)
Serve = Callable[[SettingsT, CancelScope], Awaitable[None]]
_log = structlog.get_logger()


def run_service(serve: Serve[SettingsT], settings_cls: type[SettingsT], arguments: Sequence[str] | None = None) -> int:
    """Run ``serve`` until it returns or a signal stops it.

    Returns:
        The process's exit code: 0 ended or drained, 130 cut off, a :class:`BorgError`'s own code, 1 for a bug.
    """
    try:
        settings = settings_cls.load(sys.argv[1:] if arguments is None else arguments)
        configure_logs(settings.log_level, settings.log_format, service=settings_cls.service, run=settings.run)
        return anyio.run(_supervise, serve, settings)
    except BorgError as error:
        sys.stderr.write(f"borg-{settings_cls.service}: {' '.join(str(error).split())}\n")
        return error.exit_code


async def _supervise(serve: Serve[SettingsT], settings: SettingsT) -> int:
    intake = CancelScope()
    stop = _Stop(intake, settings.grace_s)
    failure: Exception | None = None
    async with anyio.create_task_group() as group:
        await group.start(stop.on_signals)
        with stop.work:
            try:
                await serve(settings, intake)
            except Exception as error:  # noqa: BLE001  # reported below, after the signal task has ended
                failure = error
        group.cancel_scope.cancel()
    stop.disarm()
    if failure is not None:
        return _report(failure, settings)
    if stop.cut_off:
        _log.warning("service_cut_off", grace_s=settings.grace_s)
        return EXIT_CUT_OFF
    _log.info("service_ended")
    return 0


class _Stop:
    """Handles signals: the first begins the drain; the second, or the end of the grace period, cuts it off."""

    def __init__(self, intake: CancelScope, grace_s: float) -> None:
        self.work = CancelScope()
        self._intake = intake
        self._grace_s = grace_s
        self._last_moment: threading.Timer | None = None

    @property
    def cut_off(self) -> bool:
        return self.work.cancelled_caught

    async def on_signals(self, *, task_status: TaskStatus[None]) -> None:
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            task_status.started()
            async for number in signals:
                if self._intake.cancel_called:
                    self.work.cancel()
                    self._arm(LAST_MOMENT_S)
                    return
                _log.info("stop_requested", signal=signal.Signals(number).name, grace_s=self._grace_s)
                self._intake.cancel()
                self.work.deadline = anyio.current_time() + self._grace_s
                self._arm(self._grace_s + LAST_MOMENT_S)

    def disarm(self) -> None:
        """Stop the timer that would exit the process."""
        if self._last_moment is not None:
            self._last_moment.cancel()

    def _arm(self, wait_s: float) -> None:
        self.disarm()
        self._last_moment = threading.Timer(wait_s, _exit_now)
        self._last_moment.daemon = True
        self._last_moment.start()


def _exit_now() -> None:
    _log.error("service_cut_off", reason="something is still running after its cancellation")
    os._exit(EXIT_CUT_OFF)


def _report(failure: Exception, settings: ServiceSettings) -> int:
    """Raise the user-facing error behind ``failure``; log a bug with its traceback and return its exit code."""
    error = user_error(failure, settings.redis.address)
    if error is not None:
        raise error from None
    _log.error("service_failed", exc_info=failure)
    return BorgError.exit_code
