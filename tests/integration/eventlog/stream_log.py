"""Events that are numbers, and what of them was read."""

from collections.abc import Iterable, Mapping, Sequence

import anyio

from borgcore.eventlog.protocol import Chunk, Consumer, Outgoing, Partition, Position, Sender
from tests.limits import HANG_S

TRAINING, MEMORY = "training_log", "memory_monitoring"
TOPICS = (TRAINING, MEMORY)


def numbered(topic: str, numbers: Iterable[int]) -> list[Outgoing]:
    return [Outgoing(topic, b"run/agent/1", b"%d" % number) for number in numbers]


def numbers_in(chunks: Sequence[Chunk], topic: str = TRAINING) -> list[int]:
    values = [value for chunk in chunks if chunk.partition.topic == topic for value in chunk.values]
    return [int(value) for value in values if value is not None]


def end_of(chunks: Sequence[Chunk]) -> Mapping[Partition, Position]:
    return {chunk.partition: chunk.positions[-1] for chunk in chunks}


async def report_trimmed(sender: Sender) -> Mapping[str, int]:
    """Tells it by an event "<topic> <entries>" in the stream ``told``, which no test reads as a topic."""
    return await sender.report_trimmed(lambda topic, entries: Outgoing("told", b"k", f"{topic} {entries}".encode()))


async def fetch_all(consumer: Consumer, records: int, at_once: int = 1_000) -> list[Chunk]:
    """Fetches until so many records are there."""
    chunks: list[Chunk] = []
    with anyio.fail_after(HANG_S):
        while sum(len(chunk.positions) for chunk in chunks) < records:
            chunks += await consumer.fetch(at_once, 0.2)
    return chunks
