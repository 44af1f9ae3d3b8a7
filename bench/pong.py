"""How soon agents solve Pong, everything on: `borg up` as a user runs it, then the network it learned, played greedily.

    python -m bench.pong --seeds 1 2 3      JSON lines on standard output, progress on standard error

Protocol. For each seed, in turn, a run of its own from nothing: Valkey with its append-only file, agents, monitor and
logshipper, as `borg up` starts them. A training episode counts when it ends; its return is true (unclipped), and its
agent explores. `to_goal_20` and `to_goal_100` are the first moments at which the mean return over the newest 20, or
100, episodes of all agents together is at least the goal; minutes are from the start of `borg up`, warm-up and
compiling included. The run ends when both are reached, or at the limit. Then the newest checkpoint's target network,
the average that agents play with, plays 30 episodes, one after the other, with epsilon 0 and 0 to 30 NOOPs at their
start; all else is as in training (frame skip 4, no sticky actions); `cut_off` counts those that the limit of 108,000
frames ended, for a greedy network may play a rally that never ends. Settings are those of `borg up`, changed by
BORG_AGENT_… of the environment alone, and printed. Last come the medians over the seeds; a seed that did not get there
counts as slower than all others, and null is the median of such.
"""

import argparse
import math
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import deque
from pathlib import Path
from typing import Any

import orjson
import torch

from borgagent.dqn.actor import Actor, Episode
from borgagent.dqn.environment import open_environment
from borgagent.dqn.learner import Learner
from borgagent.dqn.network import QNetwork
from borgagent.settings import AgentSettings
from borgagent.stages.checkpoint import load_checkpoint
from borgcore.eventstore.reader import EventFilter
from borgcore.eventstore.sqlite import SqliteReader, open_sqlite_reader

BORG = Path(sys.executable).with_name("borg")
WINDOWS = (20, 100)  # episodes
POLL_S = 1.0
CURVE_PERIOD_S = 15.0
END_LIMIT_S = 60.0  # from the interrupt on
NOOP_MAX = 30
EVALUATION_SEED = 1_000  # beside the seeds of training


def main() -> None:
    """Measure each seed and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="seeds of the runs (default: 1 2 3)")
    parser.add_argument("--game", default="pong", help="an Atari game (default: pong)")
    parser.add_argument("--goal", type=float, default=18.0, help="mean return that ends a run (default: 18)")
    parser.add_argument("--agents", type=int, default=2, help="agent processes (default: 2)")
    parser.add_argument("--minutes", type=float, default=60.0, help="limit of each run (default: 60)")
    parser.add_argument("--episodes", type=int, default=30, help="greedy episodes afterwards, 0: none (default: 30)")
    given = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM):  # either ends the run's processes, too
        signal.signal(number, signal.default_int_handler)
    changed = {name: value for name, value in os.environ.items() if name.startswith("BORG_AGENT_")}
    tell(None, "settings", game=given.game, agents=given.agents, goal=given.goal, changed=changed)
    minutes: dict[int, list[float]] = {window: [] for window in WINDOWS}
    for seed in given.seeds:
        with tempfile.TemporaryDirectory(prefix="borg-pong-") as folder:
            run = Run(Path(folder), seed, given)
            run.train()
            if given.episodes:
                run.evaluate(given.episodes)
        for window in WINDOWS:
            minutes[window].append(run.minutes.get(window, math.inf))
    for window in WINDOWS:
        median = statistics.median(minutes[window])  # null where half of the seeds did not get there
        reached = sum(map(math.isfinite, minutes[window]))
        tell(None, f"median_to_goal_{window}", minutes=median, reached=reached, runs=len(given.seeds))


class Run:
    """One seed."""

    def __init__(self, folder: Path, seed: int, given: argparse.Namespace) -> None:
        self._folder = folder
        self._seed = seed
        self._given = given
        self._recent: deque[float] = deque(maxlen=max(WINDOWS))
        self.minutes: dict[int, float] = {}
        """Minutes to the goal by window, of those that were reached."""
        self._updates = 0
        self._curve_at_s = CURVE_PERIOD_S

    def train(self) -> None:
        """Let `borg up` run until the goal or the limit is reached."""
        given, began_s = self._given, time.monotonic()
        command = [str(BORG), "up", "--agents", str(given.agents), "--game", given.game, "--seed", str(self._seed)]
        with (self._folder / "borg.log").open("wb") as log:
            process = subprocess.Popen([*command, "--run", "bench"], cwd=self._folder, stdout=log, stderr=log)
            try:
                self._watch(process, began_s)
            finally:
                process.send_signal(signal.SIGINT)
                process.wait(END_LIMIT_S)

    def _watch(self, process: "subprocess.Popen[bytes]", began_s: float) -> None:
        path = self._folder / "runs" / "bench" / "events.sqlite"
        until_s = began_s + 60.0 * self._given.minutes
        while not self._is_over(until_s):
            self._check(process)
            with open_sqlite_reader(path, EventFilter(topic="training_log")) as journal:
                while journal is not None and not self._is_over(until_s):  # None: no file, or no table in it, yet
                    self._check(process)
                    self._read(journal, began_s)
                    time.sleep(POLL_S)
            time.sleep(POLL_S)

    def _is_over(self, until_s: float) -> bool:
        return len(self.minutes) == len(WINDOWS) or time.monotonic() >= until_s

    def _check(self, process: "subprocess.Popen[bytes]") -> None:
        if process.poll() is not None:
            raise SystemExit(f"borg up ended: {(self._folder / 'borg.log').read_text()[-1_000:]}")

    def _read(self, journal: SqliteReader, began_s: float) -> None:
        for document in journal.read():
            event: dict[str, Any] = orjson.loads(document)
            if event["event"] == "learner_reported":
                self._updates = event["updates"]
            elif event["event"] == "episode_ended":
                self._take(event["episode_return"], event["inserted"], time.monotonic() - began_s)

    def _take(self, episode_return: float, transitions: int, passed_s: float) -> None:
        self._recent.append(episode_return)
        so_far = {"minutes": round(passed_s / 60, 2), "transitions": transitions, "updates": self._updates}
        for window in WINDOWS:
            if window not in self.minutes and self._is_goal(window):
                self.minutes[window] = so_far["minutes"]
                tell(self._seed, f"to_goal_{window}", **so_far)
        if passed_s >= self._curve_at_s:
            self._curve_at_s = CURVE_PERIOD_S * (passed_s // CURVE_PERIOD_S + 1)
            tell(self._seed, "curve", **so_far, mean_return_20=round(mean(self._recent, 20), 2))
            sys.stderr.write(f"seed {self._seed}: {so_far['minutes']} min, return {mean(self._recent, 20):.1f}\n")

    def _is_goal(self, window: int) -> bool:
        return len(self._recent) >= window and mean(self._recent, window) >= self._given.goal

    def evaluate(self, episodes: int) -> None:
        """Play the newest checkpoint's network greedily."""
        torch.set_num_threads(1)
        settings = AgentSettings.load(["--game", self._given.game])
        view = settings.environment.model_copy(update={"envs": 1, "noop_max": NOOP_MAX})
        environment = open_environment(self._given.game, view)
        spec = settings.spec(len(environment.actions_A))
        network = QNetwork(settings.network, spec.stack, spec.height, spec.width, spec.actions)
        learner = Learner(network, settings.learner, torch.device("cpu"))
        folder = self._folder / "runs" / "bench" / "checkpoints"
        if not load_checkpoint(folder, learner, settings.network, spec):
            raise SystemExit(f"no checkpoint in {folder}")
        actor = Actor(environment, learner.target, settings.actor, EVALUATION_SEED + self._seed)
        played: list[Episode] = []
        while len(played) < episodes:
            for episode in actor.play(settings.actor.chunk_steps, 0.0).episodes:
                played.append(episode)
                sys.stderr.write(f"seed {self._seed}: greedy episode {len(played)} of {episodes}: {episode.score}\n")
        scores = [episode.score for episode in played[:episodes]]
        tell(
            self._seed,
            "greedy",
            updates=learner.updates,
            episodes=episodes,
            cut_off=sum(episode.truncated for episode in played[:episodes]),
            mean=round(statistics.mean(scores), 2),
            stdev=round(statistics.stdev(scores), 2),
            least=min(scores),
            most=max(scores),
        )


def mean(recent: deque[float], window: int) -> float:
    """Mean of the newest ``window`` values, of fewer where there are fewer."""
    return statistics.mean(list(recent)[-window:])


def tell(seed: int | None, metric: str, **values: Any) -> None:
    """Print one line."""
    line = {"bench": "pong", "subject": "borg-dqn", "seed": seed, "metric": metric, **values}
    sys.stdout.write(orjson.dumps(line).decode() + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
