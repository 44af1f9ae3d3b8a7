"""n-step transitions, assembled from the steps of one copy of the game."""

from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from borgcore.replay.transitions import Transition


@dataclass(frozen=True, slots=True)
class _Step:
    obs_SHW: NDArray[np.uint8]
    action: int
    q: float  # the actor's Q value of the action; gives the initial priority
    reward: float  # clipped


class NStepAssembler:
    """Keeps the newest n steps of an episode and returns a transition for each once its successor is known.

    A transition spans k <= n steps; k < n only at the end of an episode. It carries the S frames of its first
    observation and the min(k, S) newest of its successor; the two share the other frames. Its reward is the discounted
    sum of k rewards. Its discount is gamma**k, or 0 if the episode terminated; after a truncation the value of the
    last observation still counts. If the actor treats a lost life as terminal, one life is one episode here.

    Source: Hessel et al. 2018, Rainbow: Combining Improvements in Deep Reinforcement Learning.
    """

    def __init__(self, n: int, gamma: float) -> None:
        self._n = n
        self._gamma = gamma
        self._steps: deque[_Step] = deque()

    def add(self, obs_SHW: NDArray[np.uint8], action: int, q: float, reward: float) -> None:
        """Add one step: ``action``, chosen at ``obs_SHW`` for its value ``q``, earned ``reward``."""
        self._steps.append(_Step(obs_SHW, action, q, reward))

    def observe(self, next_obs_SHW: NDArray[np.uint8], value: float) -> list[Transition]:
        """Return the transition that spans n steps up to ``next_obs_SHW``, if there is one.

        ``value`` is the largest Q value at ``next_obs_SHW``, from which the episode continues.
        """
        if len(self._steps) < self._n:
            return []
        transition = self._assemble(next_obs_SHW, value)
        self._steps.popleft()
        return [transition]

    def end(self, last_obs_SHW: NDArray[np.uint8], value: float | None) -> list[Transition]:
        """End the episode at ``last_obs_SHW`` and return all its remaining transitions.

        ``value`` is the largest Q value at ``last_obs_SHW`` after a truncation, None after a termination.
        """
        transitions = []
        while self._steps:
            transitions.append(self._assemble(last_obs_SHW, value))
            self._steps.popleft()
        return transitions

    def _assemble(self, next_obs_SHW: NDArray[np.uint8], value: float | None) -> Transition:
        first, k = self._steps[0], len(self._steps)
        reward = 0.0
        for step in reversed(self._steps):
            reward = step.reward + self._gamma * reward
        discount = 0.0 if value is None else self._gamma**k
        new_frames = min(k, len(first.obs_SHW))
        return Transition(
            frames_FHW=np.concatenate((first.obs_SHW, next_obs_SHW[-new_frames:])),
            action=first.action,
            reward=reward,
            discount=discount,
            k=k,
            priority=abs(reward + discount * (value or 0.0) - first.q),
        )
