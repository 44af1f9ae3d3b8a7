"""Detects an outage of Kafka for a reader: aiokafka reconnects by itself and does not report that it has to."""

import time

from borgcore.connection.retry import Outage
from borgcore.errors import EventLogError
from borgcore.eventlog.kafka.client import address_of, find_server, is_refusal, named_errors
from borgcore.settings.sections import EventsSettings


class KafkaOutage:
    """Probes Kafka when it has been silent for ``timeout_s``; an outage is logged once at each end."""

    def __init__(self, settings: EventsSettings) -> None:
        """Take Kafka to be available."""
        self._outage = Outage("event_log_lost", "event_log_regained")
        self._settings = settings
        self._where = address_of(settings)
        self._replied_s = time.monotonic()

    @property
    def reason(self) -> str | None:
        """Why Kafka cannot be read; None while it can."""
        return self._outage.reason

    def note_reply(self) -> None:
        """Record that Kafka has answered; this ends an outage."""
        self._replied_s = time.monotonic()
        self._outage.end()

    async def check(self) -> None:
        """Probe Kafka if it has been silent for ``timeout_s``; takes at most as long again.

        Raises:
            EventLogError: Kafka is available and refuses us.
        """
        if time.monotonic() - self._replied_s < self._settings.timeout_s:
            return
        try:
            with named_errors(self._where, self._settings.timeout_s):
                await find_server(self._settings)
        except EventLogError as error:
            if error.__cause__ is not None and is_refusal(error.__cause__):
                raise
            self._outage.record(error, began_s=self._replied_s, consequence="reading resumes once the log is back")
        else:
            self.note_reply()
