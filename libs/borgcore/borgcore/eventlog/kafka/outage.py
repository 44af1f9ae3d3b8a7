"""Detects an outage of Kafka for a reader: aiokafka reconnects by itself and does not report that it has to."""

import time

from borgcore.connection.retry import Outage
from borgcore.errors import EventLogError, SettingsError
from borgcore.eventlog.kafka.client import (
    KafkaLoginRefusedError,
    address_of,
    file_error,
    find_server,
    is_refusal,
    named_errors,
)
from borgcore.settings.sections import EventsSettings


class KafkaOutage:
    """Probes Kafka when it has been silent for ``timeout_s``; an outage is logged once at each end."""

    def __init__(self, settings: EventsSettings) -> None:
        """Take Kafka to be available."""
        self._outage = Outage("event_log_lost", "event_log_regained")
        self._settings = settings
        self._where = address_of(settings)
        self._replied_s = time.monotonic()
        self._doubted = False
        self._refused_s: float | None = None  # since when a login that may change is refused

    @property
    def reason(self) -> str | None:
        """Why Kafka cannot be read; None while it can."""
        return self._outage.reason

    def note_reply(self) -> None:
        """Record that Kafka has answered; this ends an outage."""
        self._replied_s = time.monotonic()
        self._outage.end()

    def doubt(self) -> None:
        """Probe Kafka at the next check: a call has failed, perhaps on a connection that was refused."""
        self._doubted = True

    async def check(self) -> bool:
        """Probe Kafka if it is in doubt or has been silent for ``timeout_s``; takes at most as long again.

        Returns:
            Whether it was probed and accepts us.

        Raises:
            EventLogError: Kafka is available and refuses us; a login that is read from files, for ``outage_s``.
        """
        if not self._doubted and time.monotonic() - self._replied_s < self._settings.timeout_s:
            return False
        self._doubted = False
        try:
            with named_errors(self._where, self._settings.timeout_s):
                await find_server(self._settings)
        except SettingsError as error:
            self._record(file_error(error, self._where))
            return False
        except EventLogError as error:
            if self._ends_reading(error.__cause__):
                raise
            self._record(error)
            return False
        self._refused_s = None
        self.note_reply()
        return True

    def _record(self, error: EventLogError) -> None:
        self._outage.record(error, began_s=self._replied_s, consequence="reading resumes once the log is back")

    def _ends_reading(self, cause: BaseException | None) -> bool:
        if not isinstance(cause, KafkaLoginRefusedError):
            self._refused_s = None
            return cause is not None and is_refusal(cause)
        now = time.monotonic()
        self._refused_s = now if self._refused_s is None else self._refused_s
        return now - self._refused_s > self._settings.outage_s
