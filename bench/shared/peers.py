"""The shippers that bench.shipper compares, each run as a process, and their cost."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from bench.shared.bareloop import RECORDS
from bench.shared.lines import print_progress
from bench.shared.load import TOPIC
from bench.shared.rsyslog import BATCH, find_rsyslog, rsyslog_command, rsyslog_version
from borglogshipper.settings import BatchSettings, LogshipperSettings

OURS, BARE, RSYSLOG = "borg-logshipper", "bare-loop", "rsyslog"
STOP_S = 20.0
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class ShippingJob:
    """What a shipper shall ship, and where."""

    kafka: str
    prefix: str
    """Prefix of the topics and indices."""
    group: str
    url: str
    """The store's address."""
    folder: Path
    """For logs and configuration."""

    @property
    def index(self) -> str:
        """The index for shippers that do not read the documents' time."""
        return f"{self.prefix}{TOPIC}-{datetime.now(UTC):%Y.%m}"


@dataclass(frozen=True)
class Peer:
    """One shipper."""

    name: str
    facts: dict[str, str]
    command: Callable[[ShippingJob], list[str]]
    environment: Callable[[ShippingJob], dict[str, str]] = lambda _: {}


class Shipping:
    """A running shipper."""

    def __init__(self, process: subprocess.Popen[bytes], output: Path) -> None:
        self.began_s = time.monotonic()
        self._process = process
        self._words = output

    def cpu_s(self) -> float:
        """Return the user and system time of the process and its threads so far."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def rss_bytes(self) -> int:
        """Return its resident memory."""
        return int(Path(f"/proc/{self._process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def is_alive(self) -> bool:
        """Return whether it still runs."""
        return self._process.poll() is None

    def output_end(self) -> str:
        """Return the end of its output."""
        return self._words.read_text()[-2_000:]


def find_peers() -> list[Peer]:
    """Return the shippers that can run on this machine."""
    ours, period_s = BatchSettings(), LogshipperSettings.model_fields["commit_period_s"].default
    batch = f"{ours.records} records, {ours.size_bytes} bytes, {ours.in_flight} in flight"
    found = [
        Peer(OURS, {"batch": f"{batch}, commit each {period_s} s"}, _our_command, _our_environment),
        Peer(BARE, {"batch": f"{RECORDS} records, 1 in flight, commit after each"}, _bare_command),
    ]
    program = find_rsyslog()
    if program is not None:
        facts = {"batch": f"{BATCH} records", "version": rsyslog_version(program), "commit": "automatic, each 5 s"}
        found.append(Peer(RSYSLOG, facts, lambda job: _rsyslog_command(program, job)))
    return found


@contextmanager
def shipping(peer: Peer, job: ShippingJob) -> Iterator[Shipping]:
    """Run a shipper for the block; its output goes to the job's folder.

    Raises:
        RuntimeError: it exited with an error.
    """
    output = job.folder / f"{job.group}.log"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("BORG_")}
    with output.open("wb") as log:
        process = subprocess.Popen(
            peer.command(job),
            env=environment | peer.environment(job),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    running = Shipping(process, output)
    try:
        yield running
        process.send_signal(signal.SIGTERM)
        try:
            code = process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            print_progress(f"{peer.name} did not exit within {STOP_S:.0f} s of SIGTERM and was killed")
        else:
            if code:
                raise RuntimeError(f"{peer.name} exited with {code}, expected 0: {running.output_end()}")
    finally:
        process.kill()
        process.wait()


def _our_command(_job: ShippingJob) -> list[str]:
    return [sys.executable, "-m", "borglogshipper.main"]


def _our_environment(job: ShippingJob) -> dict[str, str]:
    return {
        "BORG_EVENTS_URL": f"kafka://{job.kafka}",
        "BORG_EVENTS_PREFIX": job.prefix,
        "BORG_LOGSHIPPER_GROUP": job.group,
        "BORG_LOGSHIPPER_STORE__URL": job.url,
        "BORG_LOGSHIPPER_STORE__PREFIX": job.prefix,
    }


def _bare_command(job: ShippingJob) -> list[str]:
    topic = job.prefix + TOPIC
    return [sys.executable, "-m", "bench.shared.bareloop", job.kafka, topic, job.group, job.url, job.index]


def _rsyslog_command(program: Path, job: ShippingJob) -> list[str]:
    return rsyslog_command(
        program,
        job.folder,
        kafka=job.kafka,
        topic=job.prefix + TOPIC,
        group=job.group,
        url=job.url,
        index=job.index,
    )
