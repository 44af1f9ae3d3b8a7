from collections import Counter

import numpy as np
from gymnasium.utils.env_checker import check_env

from borgagent.dqn.catch import COLUMNS, ROWS, Catch

LEFT, STAY, RIGHT = np.int64(0), np.int64(1), np.int64(2)


def ball_and_paddle(board: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> tuple[int, int]:
    """The columns of the ball, above the lowest row, and of the paddle, in the lowest row."""
    return int(board[0, :-1].max(axis=0).argmax()), int(board[0, -1].argmax())


def test_it_is_a_proper_gymnasium_environment() -> None:
    check_env(Catch(), skip_render_check=True)


def test_the_ball_falls_a_row_a_step_and_the_episode_ends_in_the_lowest() -> None:
    game = Catch()
    board, _ = game.reset(seed=1)
    column, paddle = ball_and_paddle(board)
    assert paddle == COLUMNS // 2
    for row in range(1, ROWS):
        board, reward, terminated, truncated, _ = game.step(STAY)
        assert board[0, row, column] == 255
        assert terminated == (row == ROWS - 1)
        assert not truncated
        assert bool(reward) == terminated


def test_a_caught_ball_is_worth_1_and_a_missed_one_minus_1() -> None:
    game = Catch()
    for seed in range(20):
        for follows, expected in ((True, 1.0), (False, -1.0)):
            board, _ = game.reset(seed=seed)
            goal = ball_and_paddle(board)[0]
            goal = goal if follows else (goal + 1) % COLUMNS
            rewards = []
            for _ in range(ROWS - 1):
                paddle = int(board[0, -1].argmax())
                board, reward, *_ = game.step(RIGHT if paddle < goal else LEFT if paddle > goal else STAY)
                rewards.append(reward)
            assert rewards == [*[0.0] * (ROWS - 2), expected]


def test_the_paddle_stays_on_the_board() -> None:
    game = Catch()
    for action, edge in ((LEFT, 0), (RIGHT, COLUMNS - 1)):
        board, _ = game.reset(seed=1)
        for _ in range(COLUMNS):
            board, *_ = game.step(action)
        assert board[0, -1].argmax() == edge


def test_balls_fall_from_every_column() -> None:
    game = Catch()
    game.reset(seed=0)
    columns = Counter(ball_and_paddle(game.reset()[0])[0] for _ in range(500))
    assert set(columns) == set(range(COLUMNS))
    assert min(columns.values()) > 60
