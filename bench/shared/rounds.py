"""Rounds of bench/shipper: one shipper has the topics of one prefix shipped once."""

import asyncio
import math
import time
from dataclasses import dataclass
from pathlib import Path

from bench.shared.load import committed, is_settled
from bench.shared.peers import RSYSLOG, Errand, Peer, Shipping, shipping
from bench.shared.rates import progress
from bench.shared.targets import Arrived, SinkTarget, Target

SETTLE_S = 1.5  # after the last document: the last commit is made
STALL_S = 30.0  # without a document: no more will come
LIMIT_S = 600.0  # of the memory's round
START_S = 60.0


@dataclass(frozen=True)
class StartUp:
    """What one shipper needs before it ships."""

    ready_s: float
    """Until its group had settled."""
    cpu_s: float
    """Until ``SETTLE_S`` later."""


@dataclass(frozen=True)
class Round:
    """What one shipper did in one round."""

    arrived: Arrived
    since_start_s: float
    """From the process's start to the last document."""
    cpu_s: float
    counts: dict[str, int]
    committed: int


class Bench:
    """Topics in Kafka, full and empty, and the rounds over them."""

    def __init__(self, kafka: str, mark: str, documents: int, folder: Path) -> None:
        self._kafka = kafka
        self._mark = mark
        self._documents = documents
        self._folder = folder
        self._errands = 0

    @property
    def full(self) -> str:
        """Prefix of the topics that hold the load."""
        return f"{self._mark}-full-"

    @property
    def empty(self) -> str:
        """Prefix of the topics that hold nothing."""
        return f"{self._mark}-empty-"

    def start_up(self, peer: Peer, target: Target) -> StartUp:
        """Run a shipper on empty topics."""
        target.begin(self.empty)
        errand = self._errand(self.empty, target)
        try:
            with shipping(peer, errand) as process:
                deadline_s = time.monotonic() + START_S
                while not asyncio.run(is_settled(self._kafka, errand.group)):
                    _check(process, peer, deadline_s)
                    time.sleep(0.1)
                ready_s = time.monotonic() - process.began_s
                time.sleep(SETTLE_S)
                return StartUp(ready_s, process.cpu_s())
        finally:
            target.end()

    def ship(self, peer: Peer, target: Target) -> Round:
        """Have everything shipped once; of rsyslog alone it is no error where not all arrives.

        Raises:
            RuntimeError: some are missing or twice, or the shipper ended.
        """
        target.begin(self.full)
        errand = self._errand(self.full, target)
        try:
            with shipping(peer, errand) as process:
                while (arrived := target.arrived()).documents < self._documents:
                    _check(process, peer)
                    if time.monotonic() > (arrived.last_s or process.began_s + START_S) + STALL_S:
                        break
                    time.sleep(target.period_s)
                time.sleep(SETTLE_S)
                cpu_s = process.cpu_s()
            counts = target.counts()
            exact = {counts["documents"], counts.get("distinct", self._documents)} == {self._documents}
            if peer.name != RSYSLOG and not exact:
                raise RuntimeError(f"{peer.name} delivered {counts}, expected {self._documents} different documents")
            done = asyncio.run(committed(self._kafka, errand.group, self.full))
            return Round(arrived, arrived.last_s - process.began_s, cpu_s, counts, done)
        finally:
            target.end()

    def watch_memory(self, peer: Peer, target: SinkTarget) -> tuple[Round, list[tuple[int, int]]]:
        """Have everything shipped once, and look each second how much has come and how much memory is held."""
        target.begin(self.full)
        errand = self._errand(self.full, target)
        samples: list[tuple[int, int]] = []
        with shipping(peer, errand) as process:
            deadline_s, said_s = time.monotonic() + LIMIT_S, 0.0
            while True:
                documents = target.counts()["documents"]
                samples.append((documents, process.rss_bytes()))
                if documents >= self._documents:
                    break
                _check(process, peer, deadline_s)
                if time.monotonic() > said_s + 10.0:
                    said_s = time.monotonic()
                    progress(f"  {documents} documents, {samples[-1][1] / 1e6:.0f} MB")
                time.sleep(1.0)
            arrived = target.arrived()
            time.sleep(SETTLE_S)
            samples.append((documents, process.rss_bytes()))
            cpu_s = process.cpu_s()
        done = asyncio.run(committed(self._kafka, errand.group, self.full))
        return Round(arrived, arrived.last_s - process.began_s, cpu_s, target.counts(), done), samples

    def _errand(self, prefix: str, target: Target) -> Errand:
        self._errands += 1
        return Errand(self._kafka, prefix, f"{self._mark}-{self._errands}", target.url, self._folder)


def _check(process: Shipping, peer: Peer, deadline_s: float = math.inf) -> None:
    if not process.is_alive():
        raise RuntimeError(f"{peer.name} ended before its work was done: {process.last_words()}")
    if time.monotonic() > deadline_s:
        raise RuntimeError(f"{peer.name} is too slow: {process.last_words()}")
