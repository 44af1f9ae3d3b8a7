"""Real agents that play in turns, each with another event log, so that all meet the same machine."""

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

import orjson
from prometheus_client.parser import text_string_to_metric_families

from borgcore.sections import EventsSettings

RUN = "bench"
START_S = 90.0
SETTLE_S = 1.0
TICKS_PER_CPU_S = os.sysconf("SC_CLK_TCK")


@dataclass
class Player:
    """A real agent that only plays, and what its turns gave."""

    process: "subprocess.Popen[bytes]"
    port: int
    steps_per_s: list[float] = field(default_factory=list)
    steps_per_cpu_s: list[float] = field(default_factory=list)

    def steps(self) -> float | None:
        """Steps by its /metrics; None before it plays."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", "/metrics")
            text = connection.getresponse().read().decode()
        except OSError:
            return None
        finally:
            connection.close()
        samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
        return next((sample.value for sample in samples if sample.name == "borg_agent_steps_total"), None) or None

    def cpu_s(self) -> float:
        """CPU time that its process has used, seconds."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS_PER_CPU_S

    def turn(self, seconds: float) -> None:
        """Let it play for a while, alone."""
        self.process.send_signal(signal.SIGCONT)
        time.sleep(SETTLE_S)
        began_s, used_s, before = time.monotonic(), self.cpu_s(), self.steps()
        time.sleep(seconds)
        played, elapsed_s, cpu_s = self.steps(), time.monotonic() - began_s, self.cpu_s() - used_s
        self.process.send_signal(signal.SIGSTOP)
        if before is None or played is None:
            sys.exit("an agent stopped answering before the measurement had ended; its last line stands above")
        self.steps_per_s.append((played - before) / elapsed_s)
        self.steps_per_cpu_s.append((played - before) / cpu_s)


def measure_pace(logs: dict[str, EventsSettings], valkey: Path, options: argparse.Namespace) -> None:
    """Report steps by wall-clock and by CPU time, and those with the log ``kafka-away`` as a share of the others'."""
    players: dict[str, Player] = {}
    try:
        for name, log in logs.items():
            progress(f"starting an agent that publishes to {name}")
            players[name] = _start(name, log, valkey, options.game)
        for number in range(options.rounds):
            progress(f"round {number + 1} of {options.rounds}")
            turns = list(players.values())
            for player in turns if number % 2 else reversed(turns):
                player.turn(options.seconds)
    finally:
        for player in players.values():
            player.process.kill()
            player.process.wait()
    params = {"game": options.game, "rounds": options.rounds, "seconds": options.seconds, "cpus": os.cpu_count()}
    for name, player in players.items():
        report("steps_per_s", statistics.median(player.steps_per_s), "1/s", params | {"log": name})
        report("steps_per_cpu_s", statistics.median(player.steps_per_cpu_s), "1/s", params | {"log": name})
    away = players.pop("kafka-away")
    for name, player in players.items():
        for metric in ("steps_per_s", "steps_per_cpu_s"):
            pairs = zip(getattr(away, metric), getattr(player, metric), strict=True)
            ratio = statistics.median(without / with_log for without, with_log in pairs)
            report(f"{metric}_away_over_up", ratio, "1", params | {"log": name})


def _start(name: str, log: EventsSettings, valkey: Path, game: str) -> Player:
    port = free_port()
    command = [sys.executable, "-m", "borgagent.main", "--redis-url", f"unix://{valkey}", "--run", f"{RUN}-{name}"]
    command += ["--game", game, "--learn", "never", "--replay.samples-per-insert", "0", "--replay.capacity", "20000"]
    command += ["--replay.min-size", "1000", "--device", "cpu", "--log-level", "error"]
    for patience in ("--lease-s", "--replay.push-timeout-s", "--redis-outage-s"):  # it is stopped in between
        command += [patience, "3600"]
    command += ["--events-url", log.url, "--events-prefix", log.prefix, "--health-address", f"127.0.0.1:{port}"]
    player = Player(subprocess.Popen(command, stdin=subprocess.DEVNULL), port)
    deadline_s = time.monotonic() + START_S
    while player.steps() is None:
        if player.process.poll() is not None or time.monotonic() > deadline_s:
            player.process.kill()
            sys.exit("an agent did not begin to play; its last line stands above")
        time.sleep(0.2)
    player.process.send_signal(signal.SIGSTOP)
    return player


def free_port() -> int:
    """A port on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def progress(text: str) -> None:
    """Say on standard error what is being done."""
    sys.stderr.write(f"{text}\n")


def report(metric: str, value: float, unit: str, params: dict[str, object]) -> None:
    """Print one result."""
    line = {"bench": "publishing", "subject": "borg-dqn", "metric": metric, "value": round(value, 5), "unit": unit}
    sys.stdout.write(orjson.dumps(line | {"params": params}).decode() + "\n")
    sys.stdout.flush()
