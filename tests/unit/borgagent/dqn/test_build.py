from itertools import pairwise

import pytest
import torch

from borgagent.dqn.build import build_actor, build_network, count_actions, current_epsilon, draw_seed
from borgagent.dqn.settings import ActorSettings, EnvironmentSettings
from borgcore.replay.transitions import ReplaySpec

CATCH = EnvironmentSettings(height=10, width=5, stack=1, envs=2)
SPEC = ReplaySpec("catch", 1, 10, 5, 1, 3, 0.99)
CPU = torch.device("cpu")


def test_the_actions_are_those_of_the_game() -> None:
    assert count_actions("catch", CATCH) == 3
    assert count_actions("pong", EnvironmentSettings()) == 3


def test_all_agents_of_a_seed_begin_with_one_network() -> None:
    one, same, other = (build_network("tiny", SPEC, seed, CPU).state_dict() for seed in (7, 7, 8))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not all(torch.equal(one[name], other[name]) for name in one)


def test_an_actor_plays_all_copies_and_leaves_its_network_without_gradients() -> None:
    actor = build_actor("catch", CATCH, build_network("tiny", SPEC, 0, CPU), ActorSettings(n_steps=1), seed=1)
    assert actor.play(4, epsilon=1.0).steps == 8
    assert not any(parameter.requires_grad for parameter in actor.network.parameters())


@pytest.mark.parametrize(("inserted", "agents", "epsilon"), [(0, 2, 1.0), (10**9, 2, 0.01), (10**9, 4, 0.4)])
def test_epsilon_falls_with_what_the_run_has_stored_and_the_first_of_many_explore_on(
    inserted: int, agents: int, epsilon: float
) -> None:
    assert current_epsilon(ActorSettings(), number=1, agents=agents, inserted=inserted) == pytest.approx(epsilon)


def test_seeds_of_neighbours_are_far_apart() -> None:
    seeds = sorted(draw_seed([seed, number]) for seed in range(3) for number in range(1, 5))
    assert min(after - before for before, after in pairwise(seeds)) > 1_000
    assert max(seeds) < 1 << 31
