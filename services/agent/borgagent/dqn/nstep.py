"""Assembling n-step transitions from the steps of one copy of the game."""

from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from borgcore.replay.transitions import Transition


@dataclass(frozen=True, slots=True)
class _Step:
    obs_SHW: NDArray[np.uint8]
    action: int
    q: float  # the actor's value of that action, for the initial priority
    reward: float  # already clipped


class NStepAssembler:
    """Holds the newest n steps of one episode; gives a transition for each as soon as its successor is known.

    A transition that spans k <= n steps carries the first observation's S frames and the min(k, S) newest of its
    successor: neighbours share the rest. Its reward is the discounted sum of k rewards. Its discount is gamma**k, or 0
    where the episode terminated within it (not where it was truncated: the successor's value still counts). Where the
    actor takes a lost life as an end, one life is an episode here.
    """

    def __init__(self, n: int, gamma: float) -> None:
        self._n = n
        self._gamma = gamma
        self._steps: deque[_Step] = deque()

    def add(self, obs_SHW: NDArray[np.uint8], action: int, q: float, reward: float) -> None:
        """Take in the step that was played from ``obs_SHW``."""
        self._steps.append(_Step(obs_SHW, action, q, reward))

    def reach(self, next_obs_SHW: NDArray[np.uint8], value: float) -> list[Transition]:
        """The episode goes on from ``next_obs_SHW``, worth ``value``: the transition that spans n steps now, if any."""
        if len(self._steps) < self._n:
            return []
        transition = self._assemble(next_obs_SHW, value)
        self._steps.popleft()
        return [transition]

    def end(self, last_obs_SHW: NDArray[np.uint8], value: float | None) -> list[Transition]:
        """The episode ended at ``last_obs_SHW``: every transition still open.

        ``value`` is what the last observation is worth where the episode was truncated, None where it terminated.
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
