"""Transitions, compared with a record of what the environment returned to the actor."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray

from borgagent.dqn.actor import Actor, Rollout
from borgagent.dqn.environment import Environment, open_environment
from borgagent.dqn.network import QNetwork
from borgagent.dqn.settings import ActorSettings, EnvironmentSettings
from borgcore.replay import Transition

CATCH = EnvironmentSettings(height=10, width=5, stack=1, envs=3)
PONG = EnvironmentSettings(height=42, width=42, stack=4, envs=2)
ACTIONS = {"catch": 3, "pong": 3, "breakout": 4}
GAMMA = 0.9


@dataclass
class Copy:
    """One copy's episodes: observations, actions and rewards."""

    obs: list[list[NDArray[np.uint8]]] = field(default_factory=list)
    actions: list[list[int]] = field(default_factory=list)
    rewards: list[list[float]] = field(default_factory=list)
    ends: list[str] = field(default_factory=list)
    losses: list[list[int]] = field(default_factory=list)  # steps played when a life was lost

    def begin(self, obs_SHW: NDArray[np.uint8]) -> None:
        self.losses.append([])
        self.obs.append([obs_SHW.copy()])
        self.actions.append([])
        self.rewards.append([])


class Recorder:
    """Records what an environment is given and returns."""

    def __init__(self, envs: VectorEnv[Any, Any, Any]) -> None:
        self.num_envs = envs.num_envs
        self.copies = [Copy() for _ in range(envs.num_envs)]
        self.steps = 0
        self._envs = envs
        self._lives_N = [0] * envs.num_envs

    def reset(self, *, seed: int) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        obs_NSHW, info = self._envs.reset(seed=seed)
        self._lives_N = [int(lives) for lives in info.get("lives", self._lives_N)]
        for copy, obs_SHW in zip(self.copies, obs_NSHW, strict=True):
            copy.begin(obs_SHW)
        return obs_NSHW, info

    def step(self, action_N: NDArray[np.int64]) -> Any:
        result = self._envs.step(action_N)
        for number, copy in enumerate(self.copies):
            obs_NSHW, reward_N, terminated_N, truncated_N, info = result
            before, self._lives_N[number] = self._lives_N[number], int(info.get("lives", self._lives_N)[number])
            if len(copy.ends) == len(copy.obs):  # the step that resets
                copy.begin(obs_NSHW[number])
                continue
            self.steps += 1
            copy.obs[-1].append(obs_NSHW[number].copy())
            copy.actions[-1].append(int(action_N[number]))
            copy.rewards[-1].append(float(reward_N[number]))
            if self._lives_N[number] < before:
                copy.losses[-1].append(len(copy.actions[-1]))
            if terminated_N[number] or truncated_N[number]:
                copy.ends.append("terminated" if terminated_N[number] else "truncated")
        return result


def network_of(view: EnvironmentSettings, name: Any, actions: int) -> QNetwork:
    torch.manual_seed(0)
    return QNetwork(name, view.stack, view.height, view.width, actions).requires_grad_(requires_grad=False)


def actor_of(game: str, view: EnvironmentSettings, settings: ActorSettings, seed: int = 1) -> tuple[Actor, Recorder]:
    environment = open_environment(game, view)
    recorder = Recorder(environment.envs)
    network = network_of(view, "tiny" if game == "catch" else "small", ACTIONS[game])
    recorded = Environment(recorder, environment.actions_A)  # type: ignore[arg-type]  # as much of it as the actor uses
    return Actor(recorded, network, settings, seed), recorder


def expected(copy: Copy, actions_A: NDArray[np.int64], settings: ActorSettings) -> list[tuple[Any, ...]]:
    """The transitions that a copy's steps give by definition: obs, next obs, action, reward, discount, k."""
    found = []
    for index, (obs, actions, rewards) in enumerate(zip(copy.obs, copy.actions, copy.rewards, strict=True)):
        ended = copy.ends[index] if index < len(copy.ends) else None
        losses = copy.losses[index] if settings.terminal_on_life_loss else []
        for start in range(len(actions)):
            stop = next((loss for loss in losses if loss > start), len(actions))
            end = min(start + settings.n_steps, stop)
            lost = end in losses
            if end - start < settings.n_steps and ended is None and not lost:
                continue  # not known yet
            clipped = [max(-settings.reward_clip, min(settings.reward_clip, reward)) for reward in rewards]
            reward = sum(settings.gamma**i * clipped[start + i] for i in range(end - start))
            over = lost or (end == len(actions) and ended == "terminated")
            discount = 0.0 if over else settings.gamma ** (end - start)
            action = actions_A.tolist().index(actions[start])
            found.append((obs[start].tobytes(), obs[end].tobytes(), action, reward, discount, end - start))
    return found


def as_tuple(transition: Transition, stack: int) -> tuple[Any, ...]:
    frames = transition.frames_FHW
    return (
        frames[:stack].tobytes(),
        frames[-stack:].tobytes(),
        transition.action,
        transition.reward,
        transition.discount,
        transition.k,
    )


def rounded(row: tuple[Any, ...]) -> tuple[Any, ...]:
    return (*row[:3], round(row[3], 6), round(row[4], 6), row[5])


def check(
    rollout: Rollout, recorder: Recorder, actions_A: NDArray[np.int64], view: int, settings: ActorSettings
) -> None:
    wanted = [rounded(row) for copy in recorder.copies for row in expected(copy, actions_A, settings)]
    given = [rounded(as_tuple(transition, view)) for transition in rollout.transitions]
    assert sorted(given) == sorted(wanted)
    assert rollout.steps == recorder.steps
    returns = sorted(sum(rewards) for copy in recorder.copies for rewards in copy.rewards[: len(copy.ends)])
    assert sorted(episode.score for episode in rollout.episodes) == pytest.approx(returns)
    lengths = sorted(len(actions) for copy in recorder.copies for actions in copy.actions[: len(copy.ends)])
    assert sorted(episode.steps for episode in rollout.episodes) == lengths
    ends = sorted(end == "truncated" for copy in recorder.copies for end in copy.ends)
    assert sorted(episode.truncated for episode in rollout.episodes) == ends


def together(chunks: list[Rollout]) -> Rollout:
    whole = Rollout()
    for chunk in chunks:
        whole.steps += chunk.steps
        whole.transitions += chunk.transitions
        whole.episodes += chunk.episodes
    return whole


def settle(actor: Actor) -> Rollout:
    """Complete the transitions that wait for the value of the newest observation, without a step."""
    rollout = Rollout()
    with torch.inference_mode():
        q_NA = actor.network(torch.from_numpy(actor._obs_NSHW)).numpy()
    actor._complete(rollout, q_NA.max(axis=1))
    return rollout


@pytest.mark.parametrize("n_steps", [1, 3, 12])
def test_catchs_transitions_are_what_the_game_showed(n_steps: int) -> None:
    settings = ActorSettings(n_steps=n_steps, gamma=GAMMA)
    actor, recorder = actor_of("catch", CATCH, settings)
    rollout = together([actor.play(7, 0.5), actor.play(40, 0.5), settle(actor)])
    assert sum(len(copy.ends) for copy in recorder.copies) >= 9
    check(rollout, recorder, np.arange(3), CATCH.stack, settings)


def test_pongs_transitions_are_what_the_game_showed_also_where_episodes_are_truncated() -> None:
    settings = ActorSettings(n_steps=3, gamma=GAMMA)
    actor, recorder = actor_of("pong", PONG.model_copy(update={"max_episode_frames": 400}), settings)
    rollout = together([actor.play(150, 0.5), actor.play(150, 0.5), settle(actor)])
    assert {end for copy in recorder.copies for end in copy.ends} == {"truncated"}
    assert any(rewards for copy in recorder.copies for rewards in copy.rewards if any(rewards))
    check(rollout, recorder, np.array([0, 2, 3]), PONG.stack, settings)


def test_pongs_last_point_terminates() -> None:
    settings = ActorSettings(n_steps=5, gamma=GAMMA)
    actor, recorder = actor_of("pong", PONG.model_copy(update={"envs": 1}), settings)
    chunks = []
    while not recorder.copies[0].ends:
        chunks.append(actor.play(100, 1.0))
    rollout = together([*chunks, settle(actor)])
    assert recorder.copies[0].ends == ["terminated"]
    assert -21.0 <= rollout.episodes[0].score < 0.0
    check(rollout, recorder, np.array([0, 2, 3]), PONG.stack, settings)


@pytest.mark.parametrize("terminal", [True, False])
def test_breakouts_lost_lives_end_what_counts_but_not_the_episode(terminal: bool) -> None:
    settings = ActorSettings(n_steps=3, gamma=GAMMA, terminal_on_life_loss=terminal)
    actor, recorder = actor_of("breakout", PONG, settings)
    chunks = []
    while not all(copy.ends for copy in recorder.copies):
        chunks.append(actor.play(50, 1.0))
    rollout = together([*chunks, settle(actor)])
    assert [len(copy.losses[0]) for copy in recorder.copies] == [5, 5]
    check(rollout, recorder, np.arange(4), PONG.stack, settings)


class Paying:
    """One copy of a game of one pixel with rewards 5 and -7, after which the episode ends."""

    num_envs = 1

    def __init__(self) -> None:
        self._step = 0

    def reset(self, *, seed: int) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        del seed
        return np.zeros((1, 1, 10, 5), np.uint8), {}

    def step(self, _action_N: NDArray[np.int64]) -> Any:
        self._step = (self._step + 1) % 3
        reward, ended = ((0.0, False), (5.0, False), (-7.0, True))[self._step]
        return self.reset(seed=0)[0], np.array([reward]), np.array([ended]), np.array([False]), {}


def test_rewards_are_clipped_for_learning_and_true_in_the_return() -> None:
    network = QNetwork("tiny", 1, 10, 5, 3).requires_grad_(requires_grad=False)
    paying = Environment(Paying(), np.arange(3))  # type: ignore[arg-type]  # as much of it as the actor uses
    actor = Actor(paying, network, ActorSettings(n_steps=1, reward_clip=1.0), seed=0)
    rollout = actor.play(7, 0.0)
    assert [transition.reward for transition in rollout.transitions] == [1.0, -1.0, 1.0, -1.0]
    assert [episode.score for episode in rollout.episodes] == [-2.0, -2.0]
    assert [episode.steps for episode in rollout.episodes] == [2, 2]
    assert [episode.ended_at for episode in rollout.episodes] == [2, 4]  # resets do not count as steps
    assert rollout.steps == 5  # two of seven were resets


@pytest.mark.parametrize(("game", "view"), [("catch", CATCH), ("pong", PONG)])
def test_one_seed_gives_one_play_and_another_seed_another(game: str, view: EnvironmentSettings) -> None:
    def play(seed: int) -> list[tuple[Any, ...]]:
        actor, _ = actor_of(game, view, ActorSettings(), seed)
        return [as_tuple(transition, view.stack) for transition in actor.play(30, 0.5).transitions]

    assert play(1) == play(1)
    assert play(1) != play(2)


def test_epsilon_0_is_greedy_and_epsilon_1_is_uniform() -> None:
    actor, _ = actor_of("catch", CATCH, ActorSettings(n_steps=1))
    greedy = actor.play(50, 0.0).transitions
    with torch.inference_mode():
        obs_BSHW = torch.from_numpy(np.stack([transition.frames_FHW[:1] for transition in greedy]))
        best = actor.network(obs_BSHW).argmax(dim=1)
    assert [transition.action for transition in greedy] == best.tolist()
    counts_A = np.bincount([transition.action for transition in actor.play(1000, 1.0).transitions], minlength=3)
    assert (abs(counts_A / counts_A.sum() - 1 / 3) < 0.05).all()


def test_priorities_are_the_td_errors_of_the_network_that_played() -> None:
    actor, _ = actor_of("catch", CATCH, ActorSettings(n_steps=2, gamma=GAMMA))
    transitions = actor.play(30, 0.5).transitions
    with torch.inference_mode():
        q_BA = actor.network(torch.from_numpy(np.stack([t.frames_FHW[:1] for t in transitions]))).numpy()
        next_q_BA = actor.network(torch.from_numpy(np.stack([t.frames_FHW[-1:] for t in transitions]))).numpy()
    wanted = [
        abs(t.reward + t.discount * next_A.max() - q_A[t.action])
        for t, q_A, next_A in zip(transitions, q_BA, next_q_BA, strict=True)
    ]
    assert [transition.priority for transition in transitions] == pytest.approx(wanted, abs=1e-5)
