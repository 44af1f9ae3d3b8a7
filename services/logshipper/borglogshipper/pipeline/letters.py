"""Writes dead letters: shortened if the log refuses them, held if it refuses even the shortest."""

from collections.abc import Mapping, Sequence
from datetime import datetime

import anyio
import orjson
import structlog

from borgcore.connection.retry import Backoff, Outage, retry_through_outage
from borgcore.errors import EventLogError
from borgcore.eventlog.protocol import DeadLetterLog, EventsRefusedError, Refusal
from borgcore.events.topics import DEAD_LETTER, index_name
from borgcore.service.health import Health
from borglogshipper.pipeline.dead_letter import MAX_VALUE_BYTES, encode_dead_letter
from borglogshipper.pipeline.progress import ShippingProgress, StoreOutage, Troubles, is_store_outage
from borglogshipper.pipeline.record import Refused
from borglogshipper.pipeline.record_id import origin_id
from borglogshipper.stores.store import Documents, Store

AT_ONCE = 100
VALUE_BYTES = (MAX_VALUE_BYTES, 10_000, 1_000, 0)
"""Most bytes of a record's value in its letter: the next number if the log refuses the letter."""
_log = structlog.get_logger()


class DeadLetters:
    """Writes dead letters for all deliveries; health names the record whose letter cannot be written.

    A store that keeps dead letters gets a copy of each.
    """

    def __init__(
        self,
        log: DeadLetterLog,
        store: Store,
        backoff: Backoff,
        progress: ShippingProgress,
        troubles: Troubles,
        *,
        outage_s: float,
    ) -> None:
        """Give up after an outage of the log of ``outage_s``; a letter that the log refuses is waited for."""
        self._log = log
        self._store = store
        self._backoff = backoff
        self._progress = progress
        self._troubles = troubles
        self._outage_s = outage_s
        self._held: dict[object, str] = {}

    async def write(self, refused: Sequence[Refused], of: int) -> None:
        """Return when there is a letter about each of the ``refused`` records of a batch of ``of``.

        Raises:
            EventLogError: the log was away for ``outage_s``; failing is better than skipping a record.
        """
        for start in range(0, len(refused), AT_ONCE):
            await self._write(refused[start : start + AT_ONCE])
        if refused:
            first = refused[0]
            _log.warning(
                "records_refused",
                records=len(refused),
                of=of,
                first=f"{origin_id(first.origin)}: {first.reason}",
                consequence=f"they are in {DEAD_LETTER}",
            )

    async def _write(self, refused: Sequence[Refused]) -> None:
        outage, left, step = _LetterOutage(self._troubles.health, self._held), list(refused), 0
        while left:
            outage.about = left[0]
            letters = [encode_dead_letter(one, VALUE_BYTES[step]) for one in left]
            refusals = await self._send(letters, outage)
            self._progress.dead_letters += len(left) - len(refusals)
            await self._keep([letter for row, letter in enumerate(letters) if row not in refusals])
            left = [left[row] for row in refusals]
            step = (step + 1) % len(VALUE_BYTES)
            if left and step == 0:  # a person has to change the topic; then whole letters may fit again
                outage.about = left[0]
                outage.record(EventLogError(next(iter(refusals.values())).reason))
                await anyio.sleep(self._backoff.wait_s(outage.failures))
        outage.end()

    async def _send(self, letters: Sequence[bytes], outage: Outage) -> Mapping[int, Refusal]:
        """Send letters; return why the log refuses some, by row."""
        try:
            await retry_through_outage(
                lambda: self._log.send_dead_letters(letters),
                is_outage=lambda error: isinstance(error, EventLogError) and not isinstance(error, EventsRefusedError),
                give_up_after_s=self._outage_s,
                outage=outage,
            )
        except EventsRefusedError as error:
            return error.refusals
        return {}

    async def _keep(self, letters: Sequence[bytes]) -> None:
        """Copy letters to the store, if it keeps them; one written again changes nothing."""
        if not letters or not self._store.keeps_dead_letters:
            return
        found = [orjson.loads(letter) for letter in letters]
        indices = [index_name(DEAD_LETTER, datetime.fromisoformat(letter["@timestamp"])) for letter in found]
        documents = Documents(indices, [letter["event_id"] for letter in found], [*letters])
        outage = StoreOutage(self._troubles)
        await retry_through_outage(
            lambda: self._store.write(documents), is_outage=is_store_outage, backoff=self._backoff, outage=outage
        )


class _LetterOutage(Outage):
    """The outage of one delivery's letters; while it lasts, health names the first record that waits for its letter."""

    about: Refused

    def __init__(self, health: Health, held: dict[object, str]) -> None:
        """Share ``held`` with the outages of the other deliveries."""
        super().__init__("dead_letters_held", "dead_letters_resumed")
        self._health = health
        self._held = held

    def record(self, error: Exception, *, began_s: float | None = None, **fields: object) -> None:
        """Count a failed try and report it."""
        origin, reason = self.about.origin, self.about.reason
        text = (
            f"{error}; the letter about the record {origin_id(origin)} ({reason}) waits, and its batch is not committed"
        )
        super().record(error, began_s=began_s, **fields | {"reason": text})
        self._held[self] = self._health.faults[DEAD_LETTER] = text

    def end(self, **fields: object) -> float:
        """End the outage, if there is one."""
        self._held.pop(self, None)
        if self._held:
            self._health.faults[DEAD_LETTER] = next(iter(self._held.values()))
        else:
            self._health.faults.pop(DEAD_LETTER, None)
        return super().end(**fields)
