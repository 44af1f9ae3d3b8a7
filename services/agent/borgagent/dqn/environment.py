"""The game behind gymnasium's vector interface: Atari through ale-py's C++ environment, or Catch."""

import difflib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv
from numpy.typing import NDArray

from borgagent.dqn.catch import Catch
from borgagent.dqn.settings import EnvironmentSettings
from borgcore.errors import SettingsError

CATCH = "catch"

# Action sets smaller than ALE's minimal one, as indices into it; the actions left out only repeat these.
NARROW_ACTIONS: dict[str, tuple[int, ...]] = {
    "pong": (0, 2, 3),  # NOOP, RIGHT, LEFT; FIRE does nothing after the serve, RIGHTFIRE equals RIGHT
}


@dataclass(frozen=True)
class Environment:
    """Copies of one game. A copy is reset in the step after its episode ended; that step is no transition."""

    envs: VectorEnv[Any, Any, Any]
    actions_A: NDArray[np.int64]
    """The environment's action for each action of the network."""


def open_environment(game: str, settings: EnvironmentSettings) -> Environment:
    """Open ``settings.envs`` copies of ``game``; observations are uint8 (envs, stack, height, width).

    Raises:
        SettingsError: the game is unknown, its ROM is missing, or Catch's frames have another shape than the settings.
    """
    return _open_catch(settings) if game == CATCH else _open_atari(game, settings)


def _open_catch(settings: EnvironmentSettings) -> Environment:
    envs = SyncVectorEnv([Catch] * settings.envs, autoreset_mode=AutoresetMode.NEXT_STEP)
    shape = (settings.stack, settings.height, settings.width)
    if shape != envs.single_observation_space.shape:
        raise SettingsError(
            f"catch has frames of {envs.single_observation_space.shape}, the settings say {shape}; nothing was started"
        )
    return Environment(envs, np.arange(3))


def _open_atari(game: str, settings: EnvironmentSettings) -> Environment:
    from ale_py import roms  # noqa: PLC0415  # loads the emulator, which Catch does not need
    from ale_py.vector_env import AtariVectorEnv  # noqa: PLC0415  # the same

    known = roms.get_all_rom_ids()
    if game not in known:
        raise SettingsError(f"game {game!r} is unknown; {_hint(game, known)}; nothing was started")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the error below replaces ale-py's warning
        if roms.get_rom_path(game) is None:
            raise SettingsError(f"game {game!r} is known but ale-py has no ROM of it; nothing was started")
    envs = AtariVectorEnv(
        game,
        settings.envs,
        num_threads=settings.threads,
        max_num_frames_per_episode=settings.max_episode_frames,
        repeat_action_probability=settings.sticky_actions,
        autoreset_mode=AutoresetMode.NEXT_STEP,
        img_height=settings.height,
        img_width=settings.width,
        stack_num=settings.stack,
        frameskip=settings.frame_skip,
        noop_max=settings.noop_max,
        reward_clipping=False,
    )
    narrow = NARROW_ACTIONS.get(game)
    actions = np.array(narrow) if narrow else np.arange(len(envs.ale.get_action_set()))
    return Environment(envs, actions.astype(np.int64))


def _hint(game: str, known: Sequence[str]) -> str:
    nearest = difflib.get_close_matches(game, [*known, CATCH], n=3, cutoff=0.5)
    return f"the nearest names are {', '.join(nearest)}" if nearest else f"{len(known)} are known, by ROM name"
