"""One batch, brought into the store until every record of it is there or in ``dead_letter``."""

import random
import time
from collections.abc import Mapping, Sequence

import anyio
import orjson
import structlog

from borgcore.connection.retry import backoff_s
from borgcore.errors import BorgError, EventLogError
from borgcore.eventlog.protocol import Consumer
from borgcore.events.schema import DEAD_LETTER
from borglogshipper.pipeline.dead_letter import encode_dead_letter
from borglogshipper.pipeline.progress import ShippingProgress, Trouble, Troubles
from borglogshipper.pipeline.record import Batch, Refused, origin_id
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
    """Delivers batches; what is not the record's fault is tried again for ever."""

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
        """``outage_s`` bounds the tries to write a dead letter."""
        self._store = store
        self._consumer = consumer
        self._retry = retry
        self._progress = progress
        self._troubles = troubles
        self._outage_s = outage_s

    async def prepare(self) -> None:
        """Install what documents need; returns when it is there."""
        failures = 0
        while True:
            try:
                await self._store.prepare()
            except (StoreBusyError, StoreHeldError) as error:
                failures += 1
                await self._wait(self, error, failures)
            else:
                self._troubles.end(self)
                return

    async def deliver(self, batch: Batch) -> None:
        """Return when every record is in the store or in ``dead_letter``.

        Raises:
            EventLogError: a dead letter could not be written; nothing of the batch is to be committed.
        """
        await self._send_dead_letters(batch.refused, len(batch))
        await self._store_all(batch)
        self._progress.batches += 1

    async def _store_all(self, batch: Batch) -> None:
        failures, left, who = 0, batch, object()
        while left.origins:
            try:
                if failures:
                    await self._store.prepare()  # it may have come back empty
                    self._progress.retried += len(left.origins)
                verdicts = await self._store.write(left.documents)
            except (StoreBusyError, StoreHeldError) as error:
                failures += 1
                await self._wait(who, error, failures)
                continue
            except (StoreTooLargeError, StoreRefusedError) as error:
                self._troubles.end(who)
                await self._split(left, str(error))
                return
            again = await self._settle(left, verdicts)
            if held_up := [verdict for verdict in again.values() if verdict.outcome is not Outcome.PRESENT]:
                failures += 1
                await self._wait(who, _worst(held_up), failures)
            left = left.pick(list(again))
        self._troubles.end(who)

    async def _split(self, batch: Batch, reason: str) -> None:
        """Send a request that was refused as a whole in two parts, down to the one document that is to blame."""
        rows = list(range(len(batch.origins)))
        if len(rows) == 1:
            await self._send_dead_letters([batch.refused_at(0, reason)], 1)
            return
        half = len(rows) // 2
        for part in (rows[:half], rows[half:]):
            await self._store_all(batch.pick(part))

    async def _settle(self, batch: Batch, verdicts: Mapping[int, Verdict]) -> dict[int, Verdict]:
        """Count what is stored, dead-letter what is refused; return what to send again, by row, and why."""
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

    async def _compare(self, batch: Batch, rows: list[int]) -> dict[int, Verdict]:
        """Find out whether what has a foreign document's id is that document; returns what is to be sent again.

        Another one has it where a topic was deleted and made anew: its offsets started again.
        """
        documents = batch.documents.pick(rows)
        try:
            stored = await self._store.read(documents.indices, documents.ids)
        except (StoreBusyError, StoreHeldError) as error:  # they meet the same id again
            outcome = Outcome.HELD if isinstance(error, StoreHeldError) else Outcome.BUSY
            return dict.fromkeys(rows, Verdict(outcome, str(error)))
        again = {}
        for row, body, found in zip(rows, documents.bodies, stored, strict=True):
            if found is None:
                again[row] = Verdict(Outcome.BUSY, f"{documents.indices[0]} has a document and does not show it")
            elif _sorted(found) == _sorted(body) or not batch.rename(row):
                self._progress.repeated += 1
            else:
                again[row] = Verdict(Outcome.PRESENT)
        return again

    async def _wait(self, who: object, found: BorgError | Verdict, failures: int) -> None:
        held = found.outcome is Outcome.HELD if isinstance(found, Verdict) else isinstance(found, StoreHeldError)
        reason = found.reason if isinstance(found, Verdict) else str(found)
        if held or failures > 1 or isinstance(found, StoreBusyError):  # a single 429 is no trouble
            self._troubles.begin(who, Trouble.HELD if held else Trouble.BUSY, reason)
        longest_s = self._retry.first_s * 2.0 ** min(failures - 1, 30)
        await anyio.sleep(random.uniform(0.5, 1.0) * min(longest_s, self._retry.limit_s))  # noqa: S311  # jitter

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

    async def _write(self, letters: list[bytes]) -> None:
        """Write dead letters, tried again for a while: rather stop than skip a record."""
        failures, deadline_s = 0, time.monotonic() + self._outage_s
        while True:
            try:
                await self._consumer.send_dead_letters(letters)
            except EventLogError:
                failures += 1
                wait_s = backoff_s(failures)
                if time.monotonic() + wait_s > deadline_s:
                    raise
                await anyio.sleep(wait_s)
            else:
                return


def _sorted(body: bytes) -> bytes:
    return orjson.dumps(orjson.loads(body), option=orjson.OPT_SORT_KEYS)  # unlike Python, JSON tells 1 and true apart


def _worst(verdicts: list[Verdict]) -> Verdict:
    """One that waits for a person, where there is one."""
    return next((verdict for verdict in verdicts if verdict.outcome is Outcome.HELD), verdicts[0])
