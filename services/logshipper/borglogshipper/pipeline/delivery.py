"""Delivers a batch: retries until each record is in the store or in ``dead_letter``."""

from collections.abc import Mapping

import anyio
import orjson

from borgcore.connection.retry import Backoff, retry_through_outage
from borgcore.errors import EventLogError
from borgcore.eventlog.protocol import DeadLetterLog
from borglogshipper.pipeline.letters import DeadLetters
from borglogshipper.pipeline.progress import ShippingProgress, StoreOutage, Troubles, is_store_outage
from borglogshipper.pipeline.record import RecordBatch, Refused
from borglogshipper.pipeline.record_id import read_uuid
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


class Delivery:
    """Delivers batches; retries without limit unless a record itself is the cause."""

    def __init__(
        self,
        store: Store,
        log: DeadLetterLog,
        retry: RetrySettings,
        progress: ShippingProgress,
        troubles: Troubles,
        *,
        outage_s: float,
    ) -> None:
        """Give up writing a dead letter after ``outage_s``."""
        self._store = store
        self._backoff = Backoff(retry.first_s, retry.limit_s)
        self._progress = progress
        self._troubles = troubles
        self._letters = DeadLetters(log, store, self._backoff, progress, troubles, outage_s=outage_s)

    async def prepare(self) -> None:
        """Return when the store has what documents need (index templates, tables)."""
        outage = StoreOutage(self._troubles)
        await retry_through_outage(self._store.prepare, is_outage=is_store_outage, backoff=self._backoff, outage=outage)

    async def deliver(self, batch: RecordBatch) -> None:
        """Return when every record is in the store or in ``dead_letter``; neither waits for the other.

        Raises:
            EventLogError: a dead letter could not be written; no record of the batch may be committed.
        """
        refused: list[Refused] = []

        async def write_letters() -> None:
            try:
                await self._letters.write(batch.refused, len(batch))
            except EventLogError:  # tried again once the documents are stored
                refused.extend(batch.refused)

        async with anyio.create_task_group() as group:
            if batch.refused:
                group.start_soon(write_letters)
            await self._store_all(batch, refused)
        await self._letters.write(refused, len(batch))
        self._progress.batches += 1

    async def _store_all(self, batch: RecordBatch, refused: list[Refused]) -> None:
        """Store documents; append those that can never be stored to ``refused``."""
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
                await self._split(left, str(error), refused)
                return
            again = await self._settle(left, verdicts, refused)
            if postponed := [verdict for verdict in again.values() if verdict.outcome is not Outcome.PRESENT]:
                outage.record_verdict(_worst(postponed))
                await anyio.sleep(self._backoff.wait_s(outage.failures))
            left = left.pick(list(again))
        outage.end()

    async def _split(self, batch: RecordBatch, reason: str, refused: list[Refused]) -> None:
        """Send a request that was refused as a whole in two halves, down to the single document that causes it."""
        rows = list(range(len(batch.origins)))
        if len(rows) == 1:
            refused.append(batch.refused_at(0, reason))
            return
        half = len(rows) // 2
        for part in (rows[:half], rows[half:]):
            await self._store_all(batch.pick(part), refused)

    async def _settle(
        self, batch: RecordBatch, verdicts: Mapping[int, Verdict], refused: list[Refused]
    ) -> dict[int, Verdict]:
        """Count stored documents and collect refused ones; return the verdicts, by row, of those to send again."""
        present = [row for row, verdict in verdicts.items() if verdict.outcome is Outcome.PRESENT]
        left = {row: verdict for row, verdict in verdicts.items() if verdict.outcome is not Outcome.PRESENT}
        left |= await self._compare(batch, present) if present else {}
        again = {row: verdict for row, verdict in left.items() if verdict.outcome is not Outcome.REFUSED}
        refused += [batch.refused_at(row, verdict.reason) for row, verdict in left.items() if row not in again]
        done = batch.documents.bodies
        if left:
            done = [body for row, body in enumerate(done) if row not in left]
        self._progress.shipped += len(done)
        self._progress.size_bytes += sum(map(len, done))
        return again

    async def _compare(self, batch: RecordBatch, rows: list[int]) -> dict[int, Verdict]:
        """Compare documents with the stored ones of the same id; return the verdicts of those that differ.

        A foreign one differs if a topic was deleted and created again, so that its offsets started at 0 again: it gets
        an id of its own. Any other is refused, because its id is its producer's.
        """
        documents = batch.documents.pick(rows)
        try:
            stored = await self._store.read(documents.indices, documents.ids)
        except (StoreBusyError, StoreHeldError) as error:  # their next write finds the same id again
            outcome = Outcome.HELD if isinstance(error, StoreHeldError) else Outcome.BUSY
            return dict.fromkeys(rows, Verdict(outcome, str(error)))
        differing = {}
        for row, index, id_, body, found in zip(
            rows, documents.indices, documents.ids, documents.bodies, stored, strict=True
        ):
            if found is None:
                differing[row] = Verdict(Outcome.BUSY, f"{index} has a document but does not return it")
            elif _content(found) == _content(body) or (row in batch.foreign and not batch.rename(row)):
                self._progress.repeated += 1
            elif row in batch.foreign:
                differing[row] = Verdict(Outcome.PRESENT)
            else:
                differing[row] = Verdict(Outcome.REFUSED, f"{index} has another document with its event_id {id_}")
        return differing


def _content(body: bytes) -> bytes:
    """Return a document in one form, as text because Python's 1 equals True, with a UUID in one spelling."""
    document = orjson.loads(body)
    if event_id := read_uuid(document.get("event_id")):
        document["event_id"] = event_id
    return orjson.dumps(document, option=orjson.OPT_SORT_KEYS)


def _worst(verdicts: list[Verdict]) -> Verdict:
    """Return one that needs a person, if there is one."""
    return next((verdict for verdict in verdicts if verdict.outcome is Outcome.HELD), verdicts[0])
