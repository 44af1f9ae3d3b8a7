"""The stages of a logshipper: read -> gather -> deliver, several batches at once -> commit what is done."""

import time
from collections import deque
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

import anyio
import structlog
from anyio import CancelScope
from anyio.abc import TaskGroup

from borgcore.errors import EventLogError
from borgcore.eventlog.protocol import Chunk, Consumer, Partition
from borgcore.eventlog.publisher import Publisher
from borgcore.events.monitoring import EventsDropped, ShipperReported
from borglogshipper.pipeline.delivery import Delivery
from borglogshipper.pipeline.offsets import Offsets, Span
from borglogshipper.pipeline.progress import ShippingProgress
from borglogshipper.pipeline.record import RecordBatch, RecordReader
from borglogshipper.settings import LogshipperSettings

IDLE_S = 1.0  # one wait for records
KEEP_S = 1.0  # between fetches that keep the membership while reading is paused
REPORT_PERIOD_S = 10.0
MAX_AHEAD = 1_000_000  # records read but not committed: one that is held must not let memory grow without limit
DRAIN_SHARE = 0.6  # of the grace period, for batches under way
COMMIT_SHARE = 0.1  # of the grace period, for the last commit; the rest is for closing while the log is down
_log = structlog.get_logger()


@dataclass(slots=True)
class _Gathered:
    """A batch and the spans of offsets that it covers."""

    batch: RecordBatch = field(default_factory=RecordBatch)
    spans: list[Span] = field(default_factory=list)
    began_s: float = field(default_factory=time.monotonic)


class Shipper:
    """Ships until ``intake`` is cancelled, then finishes the records it has read, within the grace period."""

    _consumer: Consumer
    _delivery: Delivery
    _deliveries: TaskGroup

    def __init__(self, settings: LogshipperSettings, member: str, progress: ShippingProgress) -> None:
        """``member`` names this replica in its reports."""
        self._settings = settings
        self._member = member
        self._progress = progress
        self._reader = RecordReader(settings.max_document_bytes, settings.max_depth)
        self._offsets = Offsets()
        self._gathered = _Gathered()
        self._ready: deque[_Gathered] = deque()
        self._under_way = 0
        self._prepared = anyio.Event()
        self._finished = anyio.Event()
        self._committing = anyio.Lock()
        self._commit_failed = False

    async def run(self, consumer: Consumer, delivery: Delivery, publisher: Publisher, intake: CancelScope) -> None:
        """Ship; see the class.

        Raises:
            EventLogError: the log refuses us, was down for too long, or did not accept a dead letter.
        """
        self._consumer = consumer
        async with anyio.create_task_group() as commits:
            commits.start_soon(self._commit_regularly)
            async with anyio.create_task_group() as deliveries:
                self._deliveries, self._delivery = deliveries, delivery
                with intake:
                    async with anyio.create_task_group() as reports:
                        reports.start_soon(self._report_regularly, publisher)
                        deliveries.start_soon(self._prepare)
                        await self._read(publisher)
                self._send_all()
                await self._drain()
                deliveries.cancel_scope.cancel()
            commits.cancel_scope.cancel()  # a commit that waits for the log would use up the time for the last one
        await self._commit_last()

    async def revoked(self, partitions: Collection[Partition]) -> None:
        """Finish and commit the records of partitions that another member takes over."""
        self._send_all()
        await self._drain(partitions)
        await self._commit()
        self._offsets.forget(partitions)

    async def _read(self, publisher: Publisher) -> None:
        """Read and batch; a batch is sent when it is full or its first record has waited long enough."""
        limits = self._settings.batch
        while True:
            gathered = self._gathered
            wait_s = self._linger_left_s() if gathered.spans else IDLE_S
            for chunk in await self._consumer.fetch(limits.records - len(gathered.batch), wait_s):
                self._gather(chunk)
            self._report_losses(publisher)
            if self._gathered.spans and self._linger_left_s() <= 0.0:
                self._close_batch()
            while self._ready:
                await self._wait_for_slot()
                self._send_next()

    def _gather(self, chunk: Chunk) -> None:
        limits = self._settings.batch
        for part in _cut(chunk, limits.size_bytes):
            if not self._gathered.spans:
                self._gathered.began_s = time.monotonic()
            self._gathered.spans.append(self._offsets.begin(part.partition, part.positions[-1], len(part.positions)))
            batch = self._gathered.batch
            self._reader.read(part, batch)
            if len(batch) >= limits.records or batch.size_bytes >= limits.size_bytes:
                self._close_batch()

    def _linger_left_s(self) -> float:
        return max(0.0, self._gathered.began_s + self._settings.batch.linger_s - time.monotonic())

    def _close_batch(self) -> None:
        self._ready.append(self._gathered)
        self._gathered = _Gathered()

    async def _wait_for_slot(self) -> None:
        """Wait until a batch may be sent, which is at once if none is under way.

        Reading is paused meanwhile; fetches keep the membership in the group.
        """
        paused, in_flight = False, self._settings.batch.in_flight
        try:
            while self._under_way and (self._under_way >= in_flight or self._offsets.entered > MAX_AHEAD):
                with anyio.move_on_after(KEEP_S) as waiting:
                    await self._finished.wait()
                if waiting.cancelled_caught:
                    if not paused:
                        self._consumer.pause()
                        paused = True
                    for chunk in await self._consumer.fetch(1, 0.0):
                        self._gather(chunk)
        finally:
            if paused:
                self._consumer.resume()

    def _send_all(self) -> None:
        if self._gathered.spans:
            self._close_batch()
        while self._ready:
            self._send_next()

    def _send_next(self) -> None:
        if self._ready:  # false if a revocation has sent it
            self._under_way += 1
            self._deliveries.start_soon(self._ship, self._ready.popleft())

    async def _prepare(self) -> None:
        """Prepare the store while reading begins: only a reader notices what the log is about to delete."""
        await self._delivery.prepare()
        self._prepared.set()

    async def _ship(self, gathered: _Gathered) -> None:
        began_s, records = time.monotonic(), len(gathered.batch)
        try:
            await self._prepared.wait()
            await self._delivery.deliver(gathered.batch)
            self._offsets.finish(gathered.spans)
        finally:
            self._under_way -= 1
            self._finished.set()
            self._finished = anyio.Event()
        _log.debug("batch_shipped", records=records, duration_ms=round((time.monotonic() - began_s) * 1000))

    async def _drain(self, partitions: Collection[Partition] | None = None) -> None:
        limit_s = DRAIN_SHARE * self._settings.grace_s
        with anyio.move_on_after(limit_s if self._prepared.is_set() else 0.0):  # nothing to wait for without a store
            while self._offsets.unfinished(partitions):
                await self._finished.wait()
        if left := self._offsets.unfinished(partitions):
            _log.warning("records_left", records=left, consequence="they stay in the log and are read again")

    async def _commit_regularly(self) -> None:
        while True:
            await anyio.sleep(self._settings.commit_period_s)
            await self._commit()
            self._progress.under_way = self._offsets.unfinished()

    async def _commit(self) -> None:
        async with self._committing:
            due = self._offsets.due()
            if not due:
                return
            try:
                await self._consumer.commit(due)
            except EventLogError as error:
                if not self._commit_failed:
                    _log.warning("commit_failed", reason=str(error), consequence="it is retried")
                self._commit_failed = True
            else:
                self._commit_failed = False
                self._offsets.committed(due)

    async def _commit_last(self) -> None:
        with anyio.move_on_after(COMMIT_SHARE * self._settings.grace_s):
            await self._commit()
        if left := self._offsets.due():
            _log.warning(
                "positions_left", partitions=len(left), consequence="their records are read again, and stored only once"
            )

    async def _report_regularly(self, publisher: Publisher) -> None:
        progress = self._progress
        while True:
            await anyio.sleep(REPORT_PERIOD_S)
            try:
                progress.lag = await self._consumer.lag()
                progress.note_retention_use(await self._consumer.retention_use())
            except EventLogError:  # the reader reports that the log is down
                continue
            self._report_losses(publisher)
            publisher.publish(
                ShipperReported(
                    shipper=self._member,
                    lag=progress.lag,
                    shipped=progress.shipped,
                    repeated=progress.repeated,
                    dead_letters=progress.dead_letters,
                    retried=progress.retried,
                    lost=progress.lost,
                )
            )

    def _report_losses(self, publisher: Publisher) -> None:
        """Count, log and publish what the log deleted before it was read."""
        for loss in self._consumer.take_losses():
            self._progress.note_loss(loss)
            topic, service = loss.partition.topic, self._settings.service
            publisher.publish(
                EventsDropped(service=service, dropped=loss.records, dropped_topic=topic, reason=loss.reason)
            )


def _cut(chunk: Chunk, size_bytes: int) -> Iterator[Chunk]:
    """Split a chunk into parts not much larger than ``size_bytes``."""
    start = size = 0
    for row, value in enumerate(chunk.values):
        size += len(value or b"")
        if size >= size_bytes:
            yield _slice(chunk, start, row + 1)
            start, size = row + 1, 0
    if start < len(chunk.values):
        yield _slice(chunk, start, len(chunk.values)) if start else chunk


def _slice(chunk: Chunk, start: int, end: int) -> Chunk:
    rows = slice(start, end)
    return Chunk(chunk.partition, chunk.positions[rows], chunk.times_ms[rows], chunk.values[rows])
