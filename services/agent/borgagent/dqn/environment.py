"""The game behind gymnasium's vector interface: Atari by ale-py's C++ environment, or Catch."""

import difflib
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv
from numpy.typing import NDArray

from borgagent.dqn.catch import Catch
from borgagent.dqn.settings import EnvironmentSettings
from borgcore.errors import SettingsError

CATCH = "catch"

# Sets narrower than ALE's minimal one, as indices into it: what the other actions do is a repetition of these.
NARROW_ACTIONS: dict[str, tuple[int, ...]] = {
    "pong": (0, 2, 3),  # NOOP, RIGHT, LEFT; FIRE changes nothing after the serve, RIGHTFIRE is RIGHT
}


@dataclass(frozen=True)
class Environment:
    """Copies of one game, reset in the step after an episode's end (that step is no transition)."""

    envs: VectorEnv[Any, Any, Any]
    actions_A: NDArray[np.int64]
    """The environment's action for each of the network's."""


def open_environment(game: str, settings: EnvironmentSettings) -> Environment:
    """Open ``settings.envs`` copies of ``game``; observations are uint8 (envs, stack, height, width).

    Raises:
        SettingsError: no such game, or its ROM is missing, or the preset is not for it.
    """
    if game == CATCH:
        catch = SyncVectorEnv([Catch] * settings.envs, autoreset_mode=AutoresetMode.NEXT_STEP)
        found = (settings.stack, settings.height, settings.width)
        if found != catch.single_observation_space.shape:
            raise SettingsError(
                f"catch has frames of {catch.single_observation_space.shape}, the settings say {found}; "
                "nothing was started"
            )
        return Environment(catch, np.arange(3))
    return _open_atari(game, settings)


def _open_atari(game: str, settings: EnvironmentSettings) -> Environment:
    from ale_py import roms  # noqa: PLC0415  # loads the emulator; Catch does without
    from ale_py.vector_env import AtariVectorEnv  # noqa: PLC0415  # the same

    known = roms.get_all_rom_ids()
    if game not in known:
        nearest = difflib.get_close_matches(game, [*known, CATCH], n=3, cutoff=0.5)
        hint = f"the nearest names are {', '.join(nearest)}" if nearest else f"{len(known)} are known, by ROM name"
        raise SettingsError(f"game {game!r} is unknown; {hint}; nothing was started")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # said below, as an error
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
