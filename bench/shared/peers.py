"""The shippers that bench/shipper compares, each run as the process it is, and what they cost."""

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
from bench.shared.load import TOPIC
from bench.shared.rates import progress
from bench.shared.rsyslog import BATCH, find_rsyslog, rsyslog_command, rsyslog_version
from borglogshipper.settings import BatchSettings, LogshipperSettings

OURS, BARE, RSYSLOG = "borg-logshipper", "bare-loop", "rsyslog"
STOP_S = 20.0
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Errand:
    """What a shipper is to do."""

    kafka: str
    prefix: str
    """Before the names of topics and indices."""
    group: str
    url: str
    """Of the store."""
    folder: Path

    @property
    def index(self) -> str:
        """Where those put documents that do not look at their time."""
        return f"{self.prefix}{TOPIC}-{datetime.now(UTC):%Y.%m}"


@dataclass(frozen=True)
class Peer:
    """One shipper."""

    name: str
    facts: dict[str, str]
    command: Callable[[Errand], list[str]]
    environment: Callable[[Errand], dict[str, str]] = lambda _: {}


class Shipping:
    """A shipper at work."""

    def __init__(self, process: subprocess.Popen[bytes], words: Path) -> None:
        self.began_s = time.monotonic()
        self._process = process
        self._words = words

    def cpu_s(self) -> float:
        """User and system time of the process and its threads so far."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def rss_bytes(self) -> int:
        """Memory it holds now."""
        return int(Path(f"/proc/{self._process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def is_alive(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None

    def last_words(self) -> str:
        """What it said at last."""
        return self._words.read_text()[-2_000:]


def find_peers() -> list[Peer]:
    """Those that can run here."""
    ours, period_s = BatchSettings(), LogshipperSettings.model_fields["commit_period_s"].default
    batch = f"{ours.records} records, {ours.size_bytes} bytes, {ours.in_flight} in flight"
    found = [
        Peer(OURS, {"batch": f"{batch}, commit each {period_s} s"}, _our_command, _our_environment),
        Peer(BARE, {"batch": f"{RECORDS} records, 1 in flight, commit after each"}, _bare_command),
    ]
    program = find_rsyslog()
    if program is not None:
        facts = {"batch": f"{BATCH} records", "version": rsyslog_version(program), "commit": "automatic, each 5 s"}
        found.append(Peer(RSYSLOG, facts, lambda errand: _rsyslog_command(program, errand)))
    return found


@contextmanager
def shipping(peer: Peer, errand: Errand) -> Iterator[Shipping]:
    """Run a shipper for the time of the block; what it says is in the errand's folder.

    Raises:
        RuntimeError: it ended with an error.
    """
    words = errand.folder / f"{errand.group}.log"
    own = {name: value for name, value in os.environ.items() if not name.startswith("BORG_")}
    with words.open("wb") as log:
        process = subprocess.Popen(
            peer.command(errand),
            env=own | peer.environment(errand),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    at_work = Shipping(process, words)
    try:
        yield at_work
        process.send_signal(signal.SIGTERM)
        try:
            code = process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            progress(f"{peer.name} did not end within {STOP_S:.0f} s of SIGTERM, so it was killed")
        else:
            if code:
                raise RuntimeError(f"{peer.name} ended with {code}: {at_work.last_words()}")
    finally:
        process.kill()
        process.wait()


def _our_command(_errand: Errand) -> list[str]:
    return [sys.executable, "-m", "borglogshipper.main"]


def _our_environment(errand: Errand) -> dict[str, str]:
    return {
        "BORG_EVENTS_URL": f"kafka://{errand.kafka}",
        "BORG_EVENTS_PREFIX": errand.prefix,
        "BORG_LOGSHIPPER_GROUP": errand.group,
        "BORG_LOGSHIPPER_STORE__URL": errand.url,
        "BORG_LOGSHIPPER_STORE__PREFIX": errand.prefix,
    }


def _bare_command(errand: Errand) -> list[str]:
    topic = errand.prefix + TOPIC
    return [sys.executable, "-m", "bench.shared.bareloop", errand.kafka, topic, errand.group, errand.url, errand.index]


def _rsyslog_command(program: Path, errand: Errand) -> list[str]:
    return rsyslog_command(
        program,
        errand.folder,
        kafka=errand.kafka,
        topic=errand.prefix + TOPIC,
        group=errand.group,
        url=errand.url,
        index=errand.index,
    )
