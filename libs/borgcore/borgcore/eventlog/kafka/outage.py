"""Whether Kafka still answers a reader: aiokafka connects again by itself, and hides that it has to."""

import time

import structlog

from borgcore.errors import EventLogError
from borgcore.eventlog.kafka.client import address_of, is_refusal, named_errors, probe
from borgcore.settings.sections import EventsSettings

_log = structlog.get_logger()


class KafkaOutage:
    """Says an outage once at its beginning and once at its end, however long it is."""

    def __init__(self, settings: EventsSettings) -> None:
        """Suspect an outage after ``timeout_s`` without an answer."""
        self.outage: str | None = None
        """Why Kafka cannot be read; None where it can."""
        self._settings = settings
        self._where = address_of(settings)
        self._heard_s = time.monotonic()
        self._lost_s = 0.0

    def heard(self) -> None:
        """Kafka has answered."""
        self._heard_s = time.monotonic()
        if self.outage is not None:
            _log.info("event_log_regained", outage_s=round(self._heard_s - self._lost_s, 3))
            self.outage = None

    async def check(self) -> None:
        """Connect where Kafka has been silent for long; takes at most ``timeout_s``.

        Raises:
            EventLogError: it is there, and refuses us.
        """
        if time.monotonic() - self._heard_s < self._settings.timeout_s:
            return
        try:
            with named_errors(self._where, self._settings.timeout_s):
                await probe(self._settings)
        except EventLogError as error:
            if error.__cause__ is not None and is_refusal(error.__cause__):
                raise
            if self.outage is None:
                self._lost_s = self._heard_s
                _log.warning("event_log_lost", reason=str(error), consequence="reading goes on when it is back")
            self.outage = str(error)
        else:
            self.heard()
