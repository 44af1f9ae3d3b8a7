"""Catch, as in bsuite: the smallest pixel game that can show that the whole system learns."""

from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

ROWS, COLUMNS = 10, 5
ACTIONS = 3  # left, stay, right


class Catch(gymnasium.Env[NDArray[np.uint8], np.int64]):
    """A ball falls from a random column, one row per step; the paddle in the lowest row has to catch it.

    Observations are uint8 (1, 10, 5): 255 at the ball and at the paddle, else 0. An episode has nine steps; its only
    reward comes at the end, 1 for a catch and -1 for a miss. Random play returns about -0.6 on average.

    Source: Osband et al. 2020, Behaviour Suite for Reinforcement Learning; Mnih et al. 2014.
    """

    def __init__(self) -> None:
        self.observation_space = gymnasium.spaces.Box(0, 255, (1, ROWS, COLUMNS), np.uint8)
        self.action_space = gymnasium.spaces.Discrete(ACTIONS)
        self._row = self._column = self._paddle = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        """Start an episode: a new ball in the top row, the paddle in the middle."""
        super().reset(seed=seed, options=options)
        self._row, self._column, self._paddle = 0, int(self.np_random.integers(COLUMNS)), COLUMNS // 2
        return self._observe(), {}

    def step(self, action: np.int64) -> tuple[NDArray[np.uint8], float, bool, bool, dict[str, Any]]:
        """Move the paddle by ``action`` - 1 columns and the ball down by one row."""
        self._paddle = int(np.clip(self._paddle + int(action) - 1, 0, COLUMNS - 1))
        self._row += 1
        ended = self._row == ROWS - 1
        reward = (1.0 if self._paddle == self._column else -1.0) if ended else 0.0
        return self._observe(), reward, ended, False, {}

    def _observe(self) -> NDArray[np.uint8]:
        board = np.zeros((1, ROWS, COLUMNS), np.uint8)
        board[0, self._row, self._column] = 255
        board[0, ROWS - 1, self._paddle] = 255
        return board
