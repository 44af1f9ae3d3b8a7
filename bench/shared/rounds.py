"""Rounds of bench.shipper: one shipper ships the topics of one prefix once."""

import asyncio
import math
import time
from dataclasses import dataclass
from pathlib import Path

from bench.shared.lines import print_progress
from bench.shared.load import committed, is_settled
from bench.shared.peers import RSYSLOG, Peer, Shipping, ShippingJob, shipping
from bench.shared.targets import Arrived, SinkTarget, Target

SETTLE_S = 1.5  # after the last document, for the last commit
STALL_S = 30.0  # without a new document: no more will arrive
LIMIT_S = 600.0  # for the memory round
START_S = 60.0


@dataclass(frozen=True)
class StartUp:
    """What one shipper spends before it ships."""

    ready_s: float
    """Until its group is stable."""
    cpu_s: float
    """Until ``SETTLE_S`` later."""


@dataclass(frozen=True)
class Round:
    """The result of one shipper in one round."""

    arrived: Arrived
    since_start_s: float
    """From the process's start to the last document."""
    cpu_s: float
    counts: dict[str, int]
    committed: int


class Bench:
    """Filled and empty topics in Kafka, and the rounds over them."""

    def __init__(self, kafka: str, mark: str, documents: int, folder: Path) -> None:
        self._kafka = kafka
        self._mark = mark
        self._documents = documents
        self._folder = folder
        self._jobs = 0

    @property
    def full(self) -> str:
        """Prefix of the topics that hold the load."""
        return f"{self._mark}-full-"

    @property
    def empty(self) -> str:
        """Prefix of the empty topics."""
        return f"{self._mark}-empty-"

    def start_up(self, peer: Peer, target: Target) -> StartUp:
        """Run a shipper on empty topics."""
        target.begin(self.empty)
        job = self._job(self.empty, target)
        try:
            with shipping(peer, job) as process:
                deadline_s = time.monotonic() + START_S
                while not asyncio.run(is_settled(self._kafka, job.group)):
                    _check(process, peer, deadline_s)
                    time.sleep(0.1)
                ready_s = time.monotonic() - process.began_s
                time.sleep(SETTLE_S)
                return StartUp(ready_s, process.cpu_s())
        finally:
            target.end()

    def ship(self, peer: Peer, target: Target) -> Round:
        """Ship everything once; only rsyslog may lose or repeat documents without an error.

        Raises:
            RuntimeError: documents are missing or repeated, or the shipper ended.
        """
        target.begin(self.full)
        job = self._job(self.full, target)
        try:
            with shipping(peer, job) as process:
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
                raise RuntimeError(f"{peer.name} delivered {counts}, expected {self._documents} distinct documents")
            done = asyncio.run(committed(self._kafka, job.group, self.full))
            return Round(arrived, arrived.last_s - process.began_s, cpu_s, counts, done)
        finally:
            target.end()

    def watch_memory(self, peer: Peer, target: SinkTarget) -> tuple[Round, list[tuple[int, int]]]:
        """Ship everything once; return documents arrived and resident bytes, sampled each second."""
        target.begin(self.full)
        job = self._job(self.full, target)
        samples: list[tuple[int, int]] = []
        with shipping(peer, job) as process:
            deadline_s, printed_s = time.monotonic() + LIMIT_S, 0.0
            while True:
                documents = target.counts()["documents"]
                samples.append((documents, process.rss_bytes()))
                if documents >= self._documents:
                    break
                _check(process, peer, deadline_s)
                if time.monotonic() > printed_s + 10.0:
                    printed_s = time.monotonic()
                    print_progress(f"  {documents} documents, {samples[-1][1] / 1e6:.0f} MB")
                time.sleep(1.0)
            arrived = target.arrived()
            time.sleep(SETTLE_S)
            samples.append((documents, process.rss_bytes()))
            cpu_s = process.cpu_s()
        done = asyncio.run(committed(self._kafka, job.group, self.full))
        return Round(arrived, arrived.last_s - process.began_s, cpu_s, target.counts(), done), samples

    def _job(self, prefix: str, target: Target) -> ShippingJob:
        self._jobs += 1
        return ShippingJob(self._kafka, prefix, f"{self._mark}-{self._jobs}", target.url, self._folder)


def _check(process: Shipping, peer: Peer, deadline_s: float = math.inf) -> None:
    if not process.is_alive():
        raise RuntimeError(f"{peer.name} exited before it had shipped everything: {process.output_end()}")
    if time.monotonic() > deadline_s:
        raise RuntimeError(f"{peer.name} did not finish in time: {process.output_end()}")
