"""Everything an agent computes with, built from settings: network, actor, learner, epsilon, seeds."""

from collections.abc import Sequence

import numpy as np
import torch

from borgagent.dqn.actor import Actor
from borgagent.dqn.environment import open_environment
from borgagent.dqn.learner import Learner
from borgagent.dqn.network import QNetwork
from borgagent.dqn.presets import NetworkName
from borgagent.dqn.schedule import agent_epsilon, geometric
from borgagent.dqn.settings import ActorSettings, EnvironmentSettings, LearnerSettings
from borgcore.replay.transitions import ReplaySpec


def count_actions(game: str, view: EnvironmentSettings) -> int:
    """Open one copy of the game and count the actions a network chooses from; blocks.

    Raises:
        SettingsError: the game is unknown, its ROM is missing, or ``view`` does not fit it.
    """
    return len(open_environment(game, view.model_copy(update={"envs": 1})).actions_A)


def build_network(name: NetworkName, spec: ReplaySpec, seed: int, device: torch.device) -> QNetwork:
    """Build the initial network; all agents of one ``seed`` get the same parameters."""
    torch.manual_seed(seed)
    return QNetwork(name, spec.stack, spec.height, spec.width, spec.actions).to(device)


def build_actor(game: str, view: EnvironmentSettings, network: QNetwork, settings: ActorSettings, seed: int) -> Actor:
    """Open the copies of the game and build the actor that plays them with ``network``; blocks."""
    return Actor(open_environment(game, view), network.requires_grad_(requires_grad=False), settings, seed)


def build_learner(network: QNetwork, settings: LearnerSettings, device: torch.device) -> Learner:
    """Build the learner that trains ``network``; blocks for seconds while torch loads its optimisers."""
    return Learner(network, settings, device)


def current_epsilon(settings: ActorSettings, *, number: int, agents: int, inserted: int) -> float:
    """Return epsilon of agent ``number`` of ``agents`` when the run has stored ``inserted`` transitions."""
    annealed = geometric(settings.epsilon_start, settings.epsilon_end, settings.epsilon_steps, inserted)
    return agent_epsilon(number=number, agents=agents, annealed=annealed)


def draw_seed(entropy: Sequence[int]) -> int:
    """Draw the seed of an agent's first copy of the game; the other copies use the numbers after it.

    Seeds drawn from different entropy lie far apart, so copies of different agents do not share one. At most 2**30, so
    that the copies' seeds fit a signed 32-bit integer.
    """
    return int(np.random.SeedSequence(entropy).generate_state(1)[0]) >> 2
