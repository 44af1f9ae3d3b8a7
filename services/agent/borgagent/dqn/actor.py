"""Acting: epsilon-greedy play with the published network, which yields transitions and finished episodes."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from borgagent.dqn.environment import Environment
from borgagent.dqn.network import QNetwork
from borgagent.dqn.nstep import NStepAssembler
from borgagent.dqn.settings import ActorSettings
from borgcore.replay.transitions import Transition


@dataclass(frozen=True, slots=True)
class Episode:
    """A finished episode."""

    score: float
    """Return, undiscounted and unclipped."""
    steps: int
    """Its length, agent steps."""
    truncated: bool
    """Whether the limit of frames ended it."""
    ended_at: int
    """Agent steps of the chunk, summed over all copies, at its end."""


@dataclass(slots=True)
class Rollout:
    """The result of one chunk of play."""

    steps: int = 0
    """Agent steps, summed over all copies; a step that resets a copy does not count."""
    transitions: list[Transition] = field(default_factory=list)
    episodes: list[Episode] = field(default_factory=list)


class Actor:
    """Steps all copies of the game together; one batched inference gives both actions and initial priorities.

    ``network`` may be replaced at any time, from any thread; a call of :meth:`play` uses one network throughout.
    """

    def __init__(self, environment: Environment, network: QNetwork, settings: ActorSettings, seed: int) -> None:
        self.network = network
        self.chunk_steps = settings.chunk_steps
        """Steps of every copy in one chunk."""
        self._envs = environment.envs
        self._actions_A = environment.actions_A
        self._clip = settings.reward_clip
        self._terminal_on_life_loss = settings.terminal_on_life_loss
        self._random = np.random.default_rng(seed)
        copies = self._envs.num_envs
        self._assemblers = [NStepAssembler(settings.n_steps, settings.gamma) for _ in range(copies)]
        self._scores_N = np.zeros(copies)
        self._lengths_N = np.zeros(copies, np.int64)
        self._terminated_N = np.zeros(copies, np.bool_)
        self._truncated_N = np.zeros(copies, np.bool_)
        self._lost_N = np.zeros(copies, np.bool_)
        self._obs_NSHW, info = self._envs.reset(seed=seed)
        self._lives_N = _lives(info, copies)

    def play(self, steps: int, epsilon: float) -> Rollout:
        """Play ``steps`` steps of every copy with probability ``epsilon`` of a random action; blocks."""
        rollout, network = Rollout(), self.network
        for _ in range(steps):
            self._step(rollout, network, epsilon)
        return rollout

    def _step(self, rollout: Rollout, network: QNetwork, epsilon: float) -> None:
        with torch.inference_mode():
            q_NA = network(torch.from_numpy(self._obs_NSHW).to(network.device)).cpu().numpy()
        self._complete(rollout, q_NA.max(axis=1))
        action_N = self._choose(q_NA, epsilon)
        resets_N = self._terminated_N | self._truncated_N  # these copies are reset by this step: no transition
        obs_NSHW, reward_N, terminated_N, truncated_N, info = self._envs.step(self._actions_A[action_N])
        clipped_N = np.clip(reward_N, -self._clip, self._clip)
        for copy in np.flatnonzero(~resets_N):
            action = int(action_N[copy])
            self._assemblers[copy].add(self._obs_NSHW[copy], action, float(q_NA[copy, action]), float(clipped_N[copy]))
        self._scores_N += np.where(resets_N, 0.0, reward_N)
        self._lengths_N += ~resets_N
        rollout.steps += len(resets_N) - int(resets_N.sum())
        self._obs_NSHW, self._terminated_N, self._truncated_N = obs_NSHW, terminated_N, truncated_N
        lives_N = _lives(info, len(resets_N))
        self._lost_N, self._lives_N = (lives_N < self._lives_N) & self._terminal_on_life_loss, lives_N
        self._finish(rollout)

    def _choose(self, q_NA: NDArray[np.float32], epsilon: float) -> NDArray[np.int64]:
        """Choose each copy's action: the best one, or with probability ``epsilon`` any."""
        action_N: NDArray[np.int64] = q_NA.argmax(axis=1)
        explores_N = self._random.random(len(q_NA)) < epsilon
        action_N[explores_N] = self._random.integers(q_NA.shape[1], size=int(explores_N.sum()))
        return action_N

    def _complete(self, rollout: Rollout, value_N: NDArray[np.float32]) -> None:
        """Complete the transitions that waited for the value of the newest observation."""
        for copy, assembler in enumerate(self._assemblers):
            obs_SHW, value = self._obs_NSHW[copy], float(value_N[copy])
            if self._terminated_N[copy] or self._lost_N[copy]:
                rollout.transitions += assembler.end(obs_SHW, None)
            elif self._truncated_N[copy]:
                rollout.transitions += assembler.end(obs_SHW, value)
            else:
                rollout.transitions += assembler.observe(obs_SHW, value)

    def _finish(self, rollout: Rollout) -> None:
        """Record the episodes that ended in this step."""
        for copy in np.flatnonzero(self._terminated_N | self._truncated_N):
            rollout.episodes.append(
                Episode(
                    score=float(self._scores_N[copy]),
                    steps=int(self._lengths_N[copy]),
                    truncated=not self._terminated_N[copy],
                    ended_at=rollout.steps,
                )
            )
            self._scores_N[copy] = 0.0
            self._lengths_N[copy] = 0


def _lives(info: dict[str, Any], copies: int) -> NDArray[np.int32]:
    """Return the lives left in each copy, int32 (N,), from ale-py; always 0 in games without lives and in Catch."""
    lives_N: NDArray[np.int32] = info.get("lives", np.zeros(copies, np.int32))
    return lives_N
