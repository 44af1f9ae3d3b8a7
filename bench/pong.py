"""Measure how soon agents solve Pong under `borg up`, then how the learned network plays greedily.

    python -m bench.pong --seeds 1 2 3      JSON lines on standard output, progress on standard error

Protocol. Each seed gets a fresh run, one after the other: Valkey with an append-only file, agents, monitor and
logshipper, as `borg up` starts them. A training episode counts when it ends; its return is unclipped, and its agent
explores. `to_goal_20` and `to_goal_100` are the first times at which the mean return over the newest 20 or 100 episodes
of all agents is at least the goal, in minutes since the start of `borg up`, including warm-up and compilation. The run
ends when both are reached, or at the limit. Then the target network of the newest checkpoint (the averaged weights that
agents play with) plays 30 episodes in sequence, with epsilon 0 and 0 to 30 NOOPs at the start of each; everything else
is as in training (frame skip 4, no sticky actions). `cut_off` counts episodes ended by the limit of 108,000 frames: a
greedy network may play an endless rally. Settings are the defaults of `borg up`, changed only by BORG_AGENT_…
environment variables, which are printed. Medians over the seeds come last; a seed that missed the goal counts as slower
than all others, and a median is null if half of the seeds missed it.
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

from bench.shared.lines import print_line, print_progress
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
END_LIMIT_S = 60.0  # after the interrupt
NOOP_MAX = 30
EVALUATION_SEED = 1_000  # added to the seed of training


def main() -> None:
    """Measure each seed, print the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="seeds of the runs (default: 1 2 3)")
    parser.add_argument("--game", default="pong", help="an Atari game (default: pong)")
    parser.add_argument("--goal", type=float, default=18.0, help="mean return that ends a run (default: 18)")
    parser.add_argument("--agents", type=int, default=2, help="agent processes (default: 2)")
    parser.add_argument("--minutes", type=float, default=60.0, help="limit of each run (default: 60)")
    parser.add_argument("--episodes", type=int, default=30, help="greedy episodes afterwards, 0: none (default: 30)")
    options = parser.parse_args()
    for number in (
        signal.SIGINT,
        signal.SIGTERM,
    ):  # both end the run's processes, even in a background job
        signal.signal(number, signal.default_int_handler)
    changed = {name: value for name, value in os.environ.items() if name.startswith("BORG_AGENT_")}
    print_pong(None, "settings", game=options.game, agents=options.agents, goal=options.goal, changed=changed)
    minutes: dict[int, list[float]] = {window: [] for window in WINDOWS}
    for seed in options.seeds:
        with tempfile.TemporaryDirectory(prefix="borg-pong-") as folder:
            run = Run(Path(folder), seed, options)
            run.train()
            if options.episodes:
                run.evaluate(options.episodes)
        for window in WINDOWS:
            minutes[window].append(run.minutes.get(window, math.inf))
    for window in WINDOWS:
        median = statistics.median(minutes[window])  # infinite, printed as null, if half of the seeds missed the goal
        reached = sum(map(math.isfinite, minutes[window]))
        print_pong(None, f"median_to_goal_{window}", minutes=median, reached=reached, runs=len(options.seeds))


class Run:
    """The run of one seed."""

    def __init__(self, folder: Path, seed: int, options: argparse.Namespace) -> None:
        self._folder = folder
        self._seed = seed
        self._options = options
        self._recent: deque[float] = deque(maxlen=max(WINDOWS))
        self.minutes: dict[int, float] = {}
        """Minutes to the goal by window, for each window that reached it."""
        self._updates = 0
        self._curve_at_s = CURVE_PERIOD_S

    def train(self) -> None:
        """Run `borg up` until the goal or the limit is reached."""
        options, began_s = self._options, time.monotonic()
        command = [str(BORG), "up", "--agents", str(options.agents), "--game", options.game, "--seed", str(self._seed)]
        with (self._folder / "borg.log").open("wb") as log:
            process = subprocess.Popen([*command, "--run", "bench"], cwd=self._folder, stdout=log, stderr=log)
            try:
                self._watch(process, began_s)
            finally:
                process.send_signal(signal.SIGINT)
                process.wait(END_LIMIT_S)

    def _watch(self, process: "subprocess.Popen[bytes]", began_s: float) -> None:
        path = self._folder / "runs" / "bench" / "events.sqlite"
        until_s = began_s + 60.0 * self._options.minutes
        while not self._is_over(until_s):
            self._check(process)
            with open_sqlite_reader(path, EventFilter(topic="training_log")) as reader:
                while reader is not None and not self._is_over(until_s):  # None: no file yet, or no table in it
                    self._check(process)
                    self._read(reader, began_s)
                    time.sleep(POLL_S)
            time.sleep(POLL_S)

    def _is_over(self, until_s: float) -> bool:
        return len(self.minutes) == len(WINDOWS) or time.monotonic() >= until_s

    def _check(self, process: "subprocess.Popen[bytes]") -> None:
        if process.poll() is not None:
            output = (self._folder / "borg.log").read_text()[-1_000:]
            raise SystemExit(f"borg up ended before the goal or the limit was reached: {output}")

    def _read(self, reader: SqliteReader, began_s: float) -> None:
        for document in reader.read():
            event: dict[str, Any] = orjson.loads(document)
            if event["event"] == "learner_reported":
                self._updates = event["updates"]
            elif event["event"] == "episode_ended":
                self._take(event["episode_return"], event["inserted"], time.monotonic() - began_s)

    def _take(self, episode_return: float, transitions: int, passed_s: float) -> None:
        self._recent.append(episode_return)
        progress = {"minutes": round(passed_s / 60, 2), "transitions": transitions, "updates": self._updates}
        for window in WINDOWS:
            if window not in self.minutes and self._is_goal(window):
                self.minutes[window] = progress["minutes"]
                print_pong(self._seed, f"to_goal_{window}", **progress)
        if passed_s >= self._curve_at_s:
            self._curve_at_s = CURVE_PERIOD_S * (passed_s // CURVE_PERIOD_S + 1)
            print_pong(self._seed, "curve", **progress, mean_return_20=round(mean(self._recent, 20), 2))
            print_progress(f"seed {self._seed}: {progress['minutes']} min, return {mean(self._recent, 20):.1f}")

    def _is_goal(self, window: int) -> bool:
        return len(self._recent) >= window and mean(self._recent, window) >= self._options.goal

    def evaluate(self, episodes: int) -> None:
        """Play the newest checkpoint's network greedily."""
        torch.set_num_threads(1)
        settings = AgentSettings.load(["--game", self._options.game])
        evaluated = settings.environment.model_copy(update={"envs": 1, "noop_max": NOOP_MAX})
        environment = open_environment(self._options.game, evaluated)
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
                print_progress(f"seed {self._seed}: greedy episode {len(played)} of {episodes}: {episode.score}")
        scores = [episode.score for episode in played[:episodes]]
        print_pong(
            self._seed,
            "greedy",
            updates=learner.updates,
            episodes=episodes,
            cut_off=sum(episode.truncated for episode in played[:episodes]),
            mean=round(statistics.mean(scores), 2),
            stdev=round(statistics.stdev(scores), 2) if len(scores) > 1 else None,
            least=min(scores),
            most=max(scores),
        )


def mean(recent: deque[float], window: int) -> float:
    """Return the mean of the newest ``window`` values, or of all if there are fewer."""
    return statistics.mean(list(recent)[-window:])


def print_pong(seed: int | None, metric: str, **values: Any) -> None:
    """Print one result; ``seed`` is None for results of all runs."""
    print_line("pong", subject="borg-dqn", seed=seed, metric=metric, **values)


if __name__ == "__main__":
    main()
