"""Playing: epsilon-greedy on a copy of the learner's network, giving transitions and finished episodes."""

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
    """True return: undiscounted, unclipped."""
    steps: int
    """Agent steps that it took."""
    truncated: bool
    """Whether it ended by the limit of frames."""
    ended_at: int
    """Agent steps of the chunk, all copies together, when it ended."""


@dataclass(slots=True)
class Rollout:
    """What one chunk of play gave."""

    steps: int = 0
    """Agent steps, all copies together; the step in which a copy is reset is none."""
    transitions: list[Transition] = field(default_factory=list)
    episodes: list[Episode] = field(default_factory=list)


class Actor:
    """Steps all copies of the game together; one batched inference gives both actions and initial priorities.

    ``network`` may be replaced between two calls of :meth:`play`; a call uses one network from its begin to its end.
    """

    def __init__(self, environment: Environment, network: QNetwork, settings: ActorSettings, seed: int) -> None:
        self.network = network
        self.chunk_steps = settings.chunk_steps
        """Steps of every copy that are played in one go."""
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
        """Play ``steps`` steps of every copy; blocks, so run it in a worker thread."""
        rollout, network = Rollout(), self.network
        for _ in range(steps):
            self._step(rollout, network, epsilon)
        return rollout

    def _step(self, rollout: Rollout, network: QNetwork, epsilon: float) -> None:
        with torch.inference_mode():
            q_NA = network(torch.from_numpy(self._obs_NSHW).to(network.device)).cpu().numpy()
        value_N = q_NA.max(axis=1)
        ended_N = self._terminated_N | self._truncated_N
        self._complete(rollout, value_N)

        copies = len(q_NA)
        action_N = q_NA.argmax(axis=1)
        explores_N = self._random.random(copies) < epsilon
        action_N[explores_N] = self._random.integers(q_NA.shape[1], size=int(explores_N.sum()))
        obs_NSHW, reward_N, terminated_N, truncated_N, info = self._envs.step(self._actions_A[action_N])
        clipped_N = np.clip(reward_N, -self._clip, self._clip)
        for copy in np.flatnonzero(~ended_N):  # the others were reset by this step: no transition
            action = int(action_N[copy])
            self._assemblers[copy].add(self._obs_NSHW[copy], action, float(q_NA[copy, action]), float(clipped_N[copy]))
        self._scores_N += np.where(ended_N, 0.0, reward_N)
        self._lengths_N += ~ended_N
        rollout.steps += copies - int(ended_N.sum())
        self._obs_NSHW, self._terminated_N, self._truncated_N = obs_NSHW, terminated_N, truncated_N
        lives_N = _lives(info, copies)
        self._lost_N, self._lives_N = (lives_N < self._lives_N) & self._terminal_on_life_loss, lives_N
        self._finish(rollout)

    def _complete(self, rollout: Rollout, value_N: NDArray[np.float32]) -> None:
        """The newest observation's value is known now: complete what was waiting for it."""
        for copy, assembler in enumerate(self._assemblers):
            obs_SHW, value = self._obs_NSHW[copy], float(value_N[copy])
            if self._terminated_N[copy] or self._lost_N[copy]:
                rollout.transitions += assembler.end(obs_SHW, None)
            elif self._truncated_N[copy]:
                rollout.transitions += assembler.end(obs_SHW, value)
            else:
                rollout.transitions += assembler.reach(obs_SHW, value)

    def _finish(self, rollout: Rollout) -> None:
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
    """Lives left in each copy, int32 (N,), as ale-py says; 0 for ever in games without lives, and in Catch."""
    lives_N: NDArray[np.int32] = info.get("lives", np.zeros(copies, np.int32))
    return lives_N
