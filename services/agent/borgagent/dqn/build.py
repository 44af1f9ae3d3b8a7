"""An agent's parts, built from its settings: network, actor, learner, exploration, seeds."""

from collections.abc import Sequence

import numpy as np
import torch

from borgagent.dqn.actor import Actor
from borgagent.dqn.environment import open_environment
from borgagent.dqn.network import QNetwork
from borgagent.dqn.presets import NetworkName
from borgagent.dqn.schedule import agent_epsilon, geometric
from borgagent.dqn.settings import ActorSettings, EnvironmentSettings
from borgcore.replay.transitions import ReplaySpec


def count_actions(game: str, view: EnvironmentSettings) -> int:
    """Open one copy of the game and count the actions that a network chooses from; blocks.

    Raises:
        SettingsError: no such game, or its ROM is missing, or the view does not fit it.
    """
    return len(open_environment(game, view.model_copy(update={"envs": 1})).actions_A)


def build_network(name: NetworkName, spec: ReplaySpec, seed: int, device: torch.device) -> QNetwork:
    """Build the initial network, the same for all agents of one ``seed``."""
    torch.manual_seed(seed)
    return QNetwork(name, spec.stack, spec.height, spec.width, spec.actions).to(device)


def build_actor(game: str, view: EnvironmentSettings, network: QNetwork, settings: ActorSettings, seed: int) -> Actor:
    """Open the copies of the game and the actor that plays them with ``network``; blocks."""
    return Actor(open_environment(game, view), network.requires_grad_(requires_grad=False), settings, seed)


def current_epsilon(settings: ActorSettings, *, number: int, agents: int, inserted: int) -> float:
    """Return the share of random actions of agent ``number`` once the run has ``inserted`` transitions."""
    annealed = geometric(settings.epsilon_start, settings.epsilon_end, settings.epsilon_steps, inserted)
    return agent_epsilon(number=number, agents=agents, annealed=annealed)


def draw_seed(entropy: Sequence[int]) -> int:
    """Draw a seed for copies that take seed, seed + 1 …: far from those of other entropy, with room above it."""
    return int(np.random.SeedSequence(entropy).generate_state(1)[0]) >> 2
