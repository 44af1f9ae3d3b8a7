"""Let real agents play in turns, each with another event log, so that all get the same share of the machine."""

import argparse
import http.client
import os
import signal
import socket
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from prometheus_client.parser import text_string_to_metric_families

from bench.shared.lines import print_metric, print_progress
from borgcore.settings.sections import EventsSettings

RUN = "bench"
START_S = 90.0
SETTLE_S = 1.0
TICKS_PER_CPU_S = os.sysconf("SC_CLK_TCK")


class Pace(NamedTuple):
    """Steps per second of wall-clock and of CPU time."""

    steps_per_s: float
    steps_per_cpu_s: float


@dataclass
class Player:
    """A real agent that only plays, and the pace of each of its turns."""

    process: "subprocess.Popen[bytes]"
    port: int
    paces: list[Pace] = field(default_factory=list)

    def sample(self, name: str) -> float | None:
        """Return one value of its /metrics, or None if it is not there yet."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", "/metrics")
            text = connection.getresponse().read().decode()
        except OSError:
            return None
        finally:
            connection.close()
        samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
        return next((sample.value for sample in samples if sample.name == name), None)

    def steps(self) -> float | None:
        """Return its steps so far, or None before it plays."""
        return self.sample("borg_agent_steps_total") or None

    def cpu_s(self) -> float:
        """Return the CPU time its process has used."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS_PER_CPU_S

    def measure(self, seconds: float) -> None:
        """Measure its pace for ``seconds``."""
        time.sleep(SETTLE_S)
        began_s, used_s, before = time.monotonic(), self.cpu_s(), self.steps()
        time.sleep(seconds)
        played, elapsed_s, cpu_s = self.steps(), time.monotonic() - began_s, self.cpu_s() - used_s
        if before is None or played is None:
            sys.exit("an agent stopped answering while it was measured: see its last line above; nothing was reported")
        self.paces.append(Pace((played - before) / elapsed_s, (played - before) / cpu_s))

    def turn(self, seconds: float) -> None:
        """Let it play alone for ``seconds``."""
        self.process.send_signal(signal.SIGCONT)
        self.measure(seconds)
        self.process.send_signal(signal.SIGSTOP)


def measure_pace(logs: dict[str, EventsSettings], valkey: Path, options: argparse.Namespace) -> None:
    """Report each agent's pace, and the pace with the log ``kafka-away`` relative to each of the others."""
    players: dict[str, Player] = {}
    try:
        for name, log in logs.items():
            print_progress(f"starting an agent that publishes to {name}")
            players[name] = start_player(name, log, valkey, options.game)
            players[name].process.send_signal(signal.SIGSTOP)
        for number in range(options.rounds):
            print_progress(f"round {number + 1} of {options.rounds}")
            turns = list(players.values())
            for player in turns if number % 2 else reversed(turns):
                player.turn(options.seconds)
    finally:
        for player in players.values():
            player.process.kill()
            player.process.wait()
    params = {"game": options.game, "rounds": options.rounds, "seconds": options.seconds, "cpus": os.cpu_count()}
    for name, player in players.items():
        for metric in Pace._fields:
            median = statistics.median(getattr(pace, metric) for pace in player.paces)
            report(metric, median, "1/s", params | {"log": name})
    away = players.pop("kafka-away")
    for name, player in players.items():
        for metric in Pace._fields:
            pairs = zip(away.paces, player.paces, strict=True)
            ratio = statistics.median(
                getattr(without, metric) / getattr(with_log, metric) for without, with_log in pairs
            )
            report(f"{metric}_away_over_up", ratio, "1", params | {"log": name})


def start_player(name: str, log: EventsSettings, valkey: Path, game: str) -> Player:
    """Start an agent that only plays, and wait until it plays."""
    port = free_port()
    command = [sys.executable, "-m", "borgagent.main", "--redis-url", f"unix://{valkey}", "--run", f"{RUN}-{name}"]
    command += ["--game", game, "--learn", "never", "--replay.samples-per-insert", "0", "--replay.capacity", "20000"]
    command += ["--replay.min-size", "1000", "--device", "cpu", "--log-level", "error"]
    for option in ("--lease-s", "--replay.push-timeout-s", "--redis-outage-s"):  # it is stopped between its turns
        command += [option, "3600"]
    command += ["--events-url", log.url, "--events-prefix", log.prefix, "--health-address", f"127.0.0.1:{port}"]
    player = Player(subprocess.Popen(command, stdin=subprocess.DEVNULL), port)
    deadline_s = time.monotonic() + START_S
    try:
        while player.steps() is None:
            if player.process.poll() is not None or time.monotonic() > deadline_s:
                sys.exit("an agent did not begin to play: see its last line above; nothing was reported")
            time.sleep(0.2)
    except BaseException:  # SIGTERM included: the caller cannot stop an agent it was not given yet
        player.process.kill()
        player.process.wait()
        raise
    return player


def free_port() -> int:
    """Return a port on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def report(metric: str, value: float, unit: str, params: dict[str, object]) -> None:
    """Print one result of bench.publishing."""
    print_metric("publishing", metric, round(value, 5), unit, params, subject="borg-dqn")
