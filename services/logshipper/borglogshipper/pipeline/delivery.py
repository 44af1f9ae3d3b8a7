"""Delivers a batch: retries until each record is in the store or in ``dead_letter``."""

from collections.abc import Mapping, Sequence

import anyio
import orjson
import structlog

from borgcore.connection.retry import Backoff, retry_through_outage
from borgcore.errors import EventLogError
from borgcore.eventlog.protocol import Consumer
from borgcore.events.topics import DEAD_LETTER
from borglogshipper.pipeline.dead_letter import encode_dead_letter
from borglogshipper.pipeline.progress import ShippingProgress, StoreOutage, Troubles, is_store_outage
from borglogshipper.pipeline.record import RecordBatch, Refused, origin_id
from borglogshipper.settings import RetrySettings
from borglogshipper.stores.store import (
    Outcome,
    Store,
    StoreBusyError,
    StoreHeldError,
    StoreRefusedError,
    StoreTooLargeError,
    Verdict,
)

DEAD_LETTERS_AT_ONCE = 100
_log = structlog.get_logger()


class Delivery:
    """Delivers batches; retries without limit unless a record itself is the cause."""

    def __init__(
        self,
        store: Store,
        consumer: Consumer,
        retry: RetrySettings,
        progress: ShippingProgress,
        troubles: Troubles,
        *,
        outage_s: float,
    ) -> None:
        """Give up writing a dead letter after ``outage_s``."""
        self._store = store
        self._consumer = consumer
        self._backoff = Backoff(retry.first_s, retry.limit_s)
        self._progress = progress
        self._troubles = troubles
        self._outage_s = outage_s

    async def prepare(self) -> None:
        """Return when the store has what documents need (index templates, tables)."""
        outage = StoreOutage(self._troubles)
        await retry_through_outage(self._store.prepare, is_outage=is_store_outage, backoff=self._backoff, outage=outage)

    async def deliver(self, batch: RecordBatch) -> None:
        """Return when every record is in the store or in ``dead_letter``.

        Raises:
            EventLogError: a dead letter could not be written; no record of the batch may be committed.
        """
        await self._send_dead_letters(batch.refused, len(batch))
        await self._store_all(batch)
        self._progress.batches += 1

    async def _store_all(self, batch: RecordBatch) -> None:
        left, outage = batch, StoreOutage(self._troubles)
        while left.origins:
            try:
                if outage.failures:
                    await self._store.prepare()  # the store may have come back empty
                    self._progress.retried += len(left.origins)
                verdicts = await self._store.write(left.documents)
            except (StoreBusyError, StoreHeldError) as error:
                outage.record(error)
                await anyio.sleep(self._backoff.wait_s(outage.failures))
                continue
            except (StoreTooLargeError, StoreRefusedError) as error:
                outage.end()
                await self._split(left, str(error))
                return
            again = await self._settle(left, verdicts)
            if postponed := [verdict for verdict in again.values() if verdict.outcome is not Outcome.PRESENT]:
                outage.record_verdict(_worst(postponed))
                await anyio.sleep(self._backoff.wait_s(outage.failures))
            left = left.pick(list(again))
        outage.end()

    async def _split(self, batch: RecordBatch, reason: str) -> None:
        """Send a request that was refused as a whole in two halves, down to the single document that causes it."""
        rows = list(range(len(batch.origins)))
        if len(rows) == 1:
            await self._send_dead_letters([batch.refused_at(0, reason)], 1)
            return
        half = len(rows) // 2
        for part in (rows[:half], rows[half:]):
            await self._store_all(batch.pick(part))

    async def _settle(self, batch: RecordBatch, verdicts: Mapping[int, Verdict]) -> dict[int, Verdict]:
        """Count stored documents and dead-letter refused ones; return the verdicts, by row, of those to send again."""
        refused, again, compare = {}, {}, []
        for row, verdict in verdicts.items():
            if verdict.outcome is Outcome.REFUSED:
                refused[row] = batch.refused_at(row, verdict.reason)
            elif verdict.outcome is not Outcome.PRESENT:
                again[row] = verdict
            elif row in batch.foreign:
                compare.append(row)
            else:
                self._progress.repeated += 1
        again |= await self._compare(batch, compare) if compare else {}
        await self._send_dead_letters(list(refused.values()), len(batch))
        done = batch.documents.bodies
        if refused or again:
            done = [body for row, body in enumerate(done) if row not in refused and row not in again]
        self._progress.shipped += len(done)
        self._progress.size_bytes += sum(map(len, done))
        return again

    async def _compare(self, batch: RecordBatch, rows: list[int]) -> dict[int, Verdict]:
        """Compare foreign documents with the stored ones of the same id; return the verdicts of those to send again.

        They differ if a topic was deleted and created again, so that its offsets started at 0 again.
        """
        documents = batch.documents.pick(rows)
        try:
            stored = await self._store.read(documents.indices, documents.ids)
        except (StoreBusyError, StoreHeldError) as error:  # their next write finds the same id again
            outcome = Outcome.HELD if isinstance(error, StoreHeldError) else Outcome.BUSY
            return dict.fromkeys(rows, Verdict(outcome, str(error)))
        again = {}
        for row, body, found in zip(rows, documents.bodies, stored, strict=True):
            if found is None:
                again[row] = Verdict(Outcome.BUSY, f"{documents.indices[0]} has a document but does not return it")
            elif _sorted(found) == _sorted(body) or not batch.rename(row):
                self._progress.repeated += 1
            else:
                again[row] = Verdict(Outcome.PRESENT)
        return again

    async def _send_dead_letters(self, refused: Sequence[Refused], of: int) -> None:
        for start in range(0, len(refused), DEAD_LETTERS_AT_ONCE):
            part = refused[start : start + DEAD_LETTERS_AT_ONCE]
            await self._write([encode_dead_letter(one) for one in part])
            self._progress.dead_letters += len(part)
        if refused:
            first = refused[0]
            _log.warning(
                "records_refused",
                records=len(refused),
                of=of,
                first=f"{origin_id(first.origin)}: {first.reason}",
                consequence=f"they are in {DEAD_LETTER}",
            )

    async def _write(self, dead_letters: list[bytes]) -> None:
        """Write dead letters, retried for ``outage_s``; failing then is better than skipping a record."""
        await retry_through_outage(
            lambda: self._consumer.send_dead_letters(dead_letters),
            is_outage=lambda error: isinstance(error, EventLogError),
            give_up_after_s=self._outage_s,
        )


def _sorted(body: bytes) -> bytes:
    return orjson.dumps(orjson.loads(body), option=orjson.OPT_SORT_KEYS)  # as text, because Python's 1 equals True


def _worst(verdicts: list[Verdict]) -> Verdict:
    """Return one that needs a person, if there is one."""
    return next((verdict for verdict in verdicts if verdict.outcome is Outcome.HELD), verdicts[0])
