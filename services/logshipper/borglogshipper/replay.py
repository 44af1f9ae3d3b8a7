"""Stores the records in ``dead_letter`` again, once the cause of their refusal is mended.

A group of its own reads the letters, so that each is replayed once. A record that is refused again gets a new letter
before the old one is committed, and a letter that cannot be replayed is appended again: neither is lost, and the next
replay finds both.
"""

import hashlib
import sys
import time
from collections import Counter
from collections.abc import Collection, Sequence

import structlog
from anyio import CancelScope

from borgcore.eventlog.open import open_consumer
from borgcore.eventlog.protocol import Chunk, Consumer, Partition, Position
from borgcore.events.topics import DEAD_LETTER
from borgcore.service.health import Health
from borglogshipper.pipeline.dead_letter import read_dead_letter
from borglogshipper.pipeline.delivery import Delivery
from borglogshipper.pipeline.progress import ShippingProgress, Troubles
from borglogshipper.pipeline.record import RecordBatch, RecordReader
from borglogshipper.settings import LogshipperSettings
from borglogshipper.stores.open import open_store
from borglogshipper.stores.store import Store

MEMBER = "replay"  # on every machine: a replay takes over from one that was killed, and one at a time is enough
AT_ONCE = 100  # letters between two commits
WAIT_S = 1.0  # for letters
PROGRESS_S = 2.0  # between two messages
_log = structlog.get_logger()


async def replay_dead_letters(settings: LogshipperSettings, intake: CancelScope) -> None:
    """Replay the letters that are there, or until ``intake`` is cancelled, and print what became of them.

    Raises:
        EventLogError: the log cannot be reached, refuses us, or did not accept a dead letter.
        SettingsError: a URL is invalid.
    """
    group = f"{settings.group}-replay"
    reading = open_consumer(settings.events, settings.run, [DEAD_LETTER], group=group, member=MEMBER, revoked=_ignore)
    async with open_store(settings.store, settings.store_url) as store, reading as consumer:
        replay = DeadLetterReplay(settings, consumer, store, Troubles(Health()))
        with intake:
            await replay.run()
        sys.stdout.write(f"{replay}\n")


async def _ignore(_partitions: Collection[Partition]) -> None:
    """Nothing is under way between two fetches."""


class DeadLetterReplay:
    """Replays letters until it meets those that it has appended itself."""

    def __init__(self, settings: LogshipperSettings, consumer: Consumer, store: Store, troubles: Troubles) -> None:
        """``consumer`` reads the topic ``dead_letter``."""
        self._consumer = consumer
        self._progress = ShippingProgress()
        outage_s = settings.events.outage_s
        self._delivery = Delivery(store, self, settings.retry, self._progress, troubles, outage_s=outage_s)
        self._reader = RecordReader(settings.max_document_bytes, settings.max_depth)
        self._read = self._kept = 0
        self._appended: set[bytes] = set()
        self._left: Counter[Partition] = Counter()
        self._told_s = time.monotonic()

    def __str__(self) -> str:
        return (
            f"dead letters: {self._read} read, {self._progress.shipped} records stored, "
            f"{self._progress.dead_letters} refused again, {self._kept} kept as they are"
        )

    async def run(self) -> None:
        """Return when no letter is left but those appended meanwhile.

        Raises:
            EventLogError: the log refuses us, or did not accept a dead letter.
        """
        await self._delivery.prepare()
        while True:
            chunks = await self._consumer.fetch(AT_ONCE, WAIT_S)
            for chunk in chunks:
                await self._replay(chunk)
            if not chunks and self._consumer.outage is None and await self._consumer.lag() <= self._left.total():
                return
            if time.monotonic() - self._told_s >= PROGRESS_S:
                self._told_s = time.monotonic()
                _log.info("dead_letters_replaying", read=self._read, left=await self._consumer.lag())

    async def send_dead_letters(self, dead_letters: Sequence[bytes]) -> None:
        """Append letters, and remember them, so that this replay does not read them again.

        Raises:
            EventLogError: as in :meth:`.DeadLetterLog.send_dead_letters`.
        """
        self._appended |= {_digest(letter) for letter in dead_letters}
        await self._consumer.send_dead_letters(dead_letters)

    async def _replay(self, chunk: Chunk) -> None:
        batch, kept, upto = RecordBatch(), list[bytes](), None
        for row, (position, letter) in enumerate(zip(chunk.positions, chunk.values, strict=True)):
            if (
                self._left[chunk.partition] or _digest(letter) in self._appended
            ):  # the rest we, or others, appended since
                self._left[chunk.partition] += len(chunk.values) - row
                break
            upto, record, reason = position, None, ""
            try:
                record = read_dead_letter(letter or b"")
            except ValueError as error:
                reason = str(error)
            self._read += 1
            if record is None:
                kept.append(letter or b"")
                _log.warning("dead_letter_kept", position=position, reason=reason, consequence="appended again")
            else:
                origin = record.origin
                self._reader.read(Chunk(origin.partition, [origin.position], [origin.time_ms], [record.value]), batch)
        await self._finish(batch, kept, {} if upto is None else {chunk.partition: upto})

    async def _finish(self, batch: RecordBatch, kept: list[bytes], upto: dict[Partition, Position]) -> None:
        if len(batch):
            await self._delivery.deliver(batch)
        if kept:
            await self.send_dead_letters(kept)
            self._kept += len(kept)
        if upto:
            await self._consumer.commit(upto)


def _digest(letter: bytes | None) -> bytes:
    return hashlib.sha256(letter or b"").digest()
