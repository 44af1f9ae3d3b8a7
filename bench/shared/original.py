"""The calls of the original Borg-DQN: a list of raw frames in Redis, one call per sample."""

import itertools
import random
from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
import redis
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from numpy.typing import NDArray

from bench.shared.lines import print_progress
from bench.shared.rates import blocking_rates_of, report
from borgcore.replay import Transition

KEY = "original:replay"


def _message_class() -> type:
    """Build a protobuf message class of the original's shape, with raw frames."""
    file = descriptor_pb2.FileDescriptorProto(name="bench/original.proto", package="bench", syntax="proto3")
    message = file.message_type.add(name="Experience")
    kinds = {"state": 12, "action": 13, "reward": 2, "terminal": 8, "next_state": 12}
    for number, (name, kind) in enumerate(kinds.items(), 1):
        message.field.add(name=name, number=number, type=kind, label=1)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("bench.Experience"))


Experience = _message_class()


def encode(transition: Transition, stack: int) -> bytes:
    """Pack both observations as complete raw frames."""
    frames = transition.frames_FHW
    return bytes(
        Experience(
            state=frames[:stack].tobytes(),
            action=transition.action,
            reward=transition.reward,
            terminal=transition.discount == 0,
            next_state=frames[-stack:].tobytes(),
        ).SerializeToString()
    )


class Original:
    """The original's replay memory."""

    def __init__(self, client: redis.Redis, capacity: int) -> None:
        """Hold ``capacity`` transitions in one list."""
        self._redis, self._capacity = client, capacity

    def push(self, message: bytes) -> None:
        """Prepend one transition and trim the list, in two calls."""
        self._redis.lpush(KEY, message)
        self._redis.ltrim(KEY, 0, self._capacity - 1)

    def sample(self, batch_size: int) -> list[NDArray[np.uint8]]:
        """Fetch and parse random transitions, one call each."""
        size = int(self._redis.llen(KEY))
        found: list[NDArray[np.uint8]] = []
        for _ in range(batch_size):
            message = Experience.FromString(self._redis.lindex(KEY, random.randrange(size)))  # type: ignore[attr-defined]
            found += [np.frombuffer(message.state, np.uint8), np.frombuffer(message.next_state, np.uint8)]
        return found

    def bytes_each(self) -> float:
        """Return the bytes per transition."""
        return float(self._redis.memory_usage(KEY, samples=64) or 0) / int(self._redis.llen(KEY))


def measure(url: str, played: Sequence[Transition], size: int, rounds: int, seconds: float) -> None:
    """Measure with ``size`` stored transitions; keep it small, raw frames soon fill a machine's memory."""
    print_progress(f"original: storing {size}")
    stack = played[0].frames_FHW.shape[0] - played[0].k
    messages = [encode(transition, stack) for transition in played]
    with redis.Redis.from_url(url) as client:
        memory = Original(client, size)
        for first in range(0, size, len(messages)):
            client.lpush(KEY, *messages[: size - first])
        bytes_each = memory.bytes_each()
        note = f"a million stored would take {bytes_each / 1e3:.0f} GB and is not measured"
        params = {"game": "pong", "pixels": 84, "n": played[0].k, "stored": size, "note": note}
        report("original", "bytes_per_transition", [bytes_each], "B", **params)
        for batch_size in (32, 256):
            rates = blocking_rates_of(partial(memory.sample, batch_size), batch_size, rounds, seconds)
            report("original", "sample_to_arrays_uniform", rates, "1/s", batch=batch_size, **params)
        turns = itertools.cycle(zip(played, messages, strict=True))
        rates = blocking_rates_of(partial(_push_played, memory, turns, stack), 1, rounds, seconds)
        report("original", "push_from_arrays", rates, "1/s", batch=1, **params)
        rates = blocking_rates_of(partial(_push_message, memory, turns), 1, rounds, seconds)
        report("original", "push_encoded", rates, "1/s", batch=1, **params)
        client.unlink(KEY)


def _push_played(memory: Original, turns: Iterator[tuple[Transition, bytes]], stack: int) -> None:
    memory.push(encode(next(turns)[0], stack))


def _push_message(memory: Original, turns: Iterator[tuple[Transition, bytes]]) -> None:
    memory.push(next(turns)[1])
