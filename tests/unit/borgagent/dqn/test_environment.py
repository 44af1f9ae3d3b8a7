import warnings

import numpy as np
import pytest
from ale_py import Action, roms

from borgagent.dqn.environment import NARROW_ACTIONS, open_environment
from borgagent.dqn.settings import EnvironmentSettings
from borgcore.errors import SettingsError

SMALL = EnvironmentSettings(height=42, width=42, stack=4, envs=2, noop_max=0)
CATCH = EnvironmentSettings(height=10, width=5, stack=1, envs=3)


@pytest.mark.parametrize(
    ("game", "hint"),
    [
        ("pnog", "the nearest names are pong"),
        ("Pong", "the nearest names are pong"),
        ("catchh", "the nearest names are catch"),
        ("space_invader", "the nearest names are space_invaders"),
        ("zzzzzzzz", r"\d+ are known, by ROM name"),
        ("", r"\d+ are known, by ROM name"),
    ],
)
def test_an_unknown_game_is_refused_with_the_nearest_names(game: str, hint: str) -> None:
    with pytest.raises(SettingsError, match=f"^game '{game}' is unknown; {hint}.*; nothing was started$"):
        open_environment(game, SMALL)


def test_a_game_without_its_rom_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_rom(_game: str) -> None:
        warnings.warn("no ROM", UserWarning, stacklevel=1)

    monkeypatch.setattr(roms, "get_rom_path", no_rom)
    with pytest.raises(SettingsError, match=r"^game 'pong' is known but ale-py has no ROM of it; nothing was started$"):
        open_environment("pong", SMALL)


def test_catch_with_atari_frames_is_refused_with_both_shapes() -> None:
    text = r"^catch has frames of \(1, 10, 5\), the settings say \(4, 42, 42\); nothing was started$"
    with pytest.raises(SettingsError, match=text):
        open_environment("catch", SMALL)


def test_pong_is_played_with_noop_right_and_left() -> None:
    environment = open_environment("pong", SMALL)
    minimal = environment.envs.ale.get_action_set()  # type: ignore[attr-defined]  # AtariVectorEnv's own
    assert [minimal[action] for action in environment.actions_A] == [Action.NOOP, Action.RIGHT, Action.LEFT]


def test_other_games_are_played_with_their_minimal_set() -> None:
    assert open_environment("breakout", SMALL).actions_A.tolist() == [0, 1, 2, 3]
    assert len(open_environment("seaquest", SMALL).actions_A) == 18


def test_narrow_sets_are_of_known_games() -> None:
    assert set(NARROW_ACTIONS) <= set(roms.get_all_rom_ids())


@pytest.mark.parametrize(("game", "settings"), [("pong", SMALL), ("catch", CATCH)])
def test_observations_have_the_shape_the_settings_say(game: str, settings: EnvironmentSettings) -> None:
    envs = open_environment(game, settings).envs
    obs_NSHW, _ = envs.reset(seed=1)
    assert obs_NSHW.shape == (settings.envs, settings.stack, settings.height, settings.width)
    assert obs_NSHW.dtype == np.uint8


def test_an_atari_observation_is_the_one_before_moved_on_by_one_frame() -> None:
    envs = open_environment("pong", SMALL).envs
    before_NSHW, _ = envs.reset(seed=1)
    for _ in range(20):
        obs_NSHW, *_ = envs.step(np.zeros(2, np.int64))
        assert np.array_equal(obs_NSHW[:, :-1], before_NSHW[:, 1:])
        before_NSHW = obs_NSHW


def test_an_atari_episode_is_truncated_after_its_most_frames() -> None:
    envs = open_environment("pong", SMALL.model_copy(update={"max_episode_frames": 40})).envs
    envs.reset(seed=1)
    ends = []
    for step in range(1, 23):
        _, _, terminated, truncated, _ = envs.step(np.zeros(2, np.int64))
        assert not terminated.any()
        if truncated.all():
            ends.append(step)
    assert ends == [10, 21]  # frame skip 4; one step is the reset


def test_atari_rewards_are_not_clipped() -> None:
    envs = open_environment("space_invaders", SMALL.model_copy(update={"envs": 4})).envs
    envs.reset(seed=1)
    rng = np.random.default_rng(1)
    best = max(envs.step(rng.integers(0, 6, 4))[1].max() for _ in range(400))
    assert best >= 5.0
