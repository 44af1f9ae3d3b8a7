"""Real n-step transitions, played by random agents on the real ROM."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from ale_py.vector_env import AtariVectorEnv
from numpy.typing import NDArray

from borgcore.replay import ReplaySpec, Transition

ENVS = 8
STACK = 4
OPENING_STEPS = 60  # skipped: every game begins with the same frames
ACTIONS = 18
GAMMA = 0.99


def spec_of(game: str, size: int, n: int) -> ReplaySpec:
    """Return the spec of one measured case."""
    return ReplaySpec(game, STACK, size, size, n, ACTIONS, GAMMA)


def play(spec: ReplaySpec, count: int) -> list[Transition]:
    """Return ``count`` transitions in the order of play, interleaved from ``ENVS`` environments."""
    env: Any = AtariVectorEnv(
        spec.game,
        ENVS,
        img_height=spec.height,
        img_width=spec.width,
        num_threads=1,
        repeat_action_probability=0.0,
        reward_clipping=False,
    )
    rng = np.random.default_rng(0)
    obs, _ = env.reset(seed=0)
    steps: list[NDArray[np.uint8]] = [obs.copy()]
    for _ in range(OPENING_STEPS + count // ENVS + spec.n + 1):
        obs, *_ = env.step(rng.integers(0, env.single_action_space.n, ENVS))
        steps.append(obs.copy())
    env.close()
    return _join(spec, steps[OPENING_STEPS:], rng)[:count]


def _join(spec: ReplaySpec, steps: Sequence[NDArray[np.uint8]], rng: np.random.Generator) -> list[Transition]:
    """Join each observation with the new frames of its successor n steps later."""
    new = min(spec.n, spec.stack)
    transitions = []
    for first, last in zip(steps, steps[spec.n :], strict=False):
        for env in range(ENVS):
            frames_FHW = np.concatenate([first[env], last[env][-new:]])
            transitions.append(Transition(frames_FHW, 0, 0.0, GAMMA**spec.n, spec.n, float(rng.exponential())))
    return transitions
