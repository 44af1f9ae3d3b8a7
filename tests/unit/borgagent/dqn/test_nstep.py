from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from borgagent.dqn.nstep import NStepAssembler
from borgcore.replay import Transition

GAMMA = 0.9


@dataclass
class Episode:
    """Frames 1, 2, 3 … of one pixel; the first observation is padded with blank frames, as ALE's is."""

    stack: int
    rewards: Sequence[float]
    terminated: bool

    def obs(self, step: int) -> NDArray[np.uint8]:
        frames = [*[0] * (self.stack - 1), *range(1, len(self.rewards) + 2)][step : step + self.stack]
        return np.array(frames, np.uint8).reshape(self.stack, 1, 1)

    def action(self, step: int) -> int:
        return step % 4

    def q(self, step: int) -> float:
        return 0.5 * step

    def value(self, step: int) -> float:
        return 3.0 + step


def assemble(assembler: NStepAssembler, episode: Episode) -> list[Transition]:
    found: list[Transition] = []
    steps = len(episode.rewards)
    for step, reward in enumerate(episode.rewards):
        found += assembler.observe(episode.obs(step), episode.value(step))
        assembler.add(episode.obs(step), episode.action(step), episode.q(step), reward)
    return found + assembler.end(episode.obs(steps), None if episode.terminated else episode.value(steps))


def check(transition: Transition, start: int, episode: Episode, n: int) -> None:
    """Compare with the definition: from step ``start`` over n steps or to the end of the episode."""
    end = min(start + n, len(episode.rewards))
    k = end - start
    reward = sum(GAMMA**i * episode.rewards[start + i] for i in range(k))
    open_ended = end < len(episode.rewards) or not episode.terminated
    discount = GAMMA**k if open_ended else 0.0
    assert transition.k == k
    assert transition.action == episode.action(start)
    assert transition.reward == pytest.approx(reward)
    assert transition.discount == pytest.approx(discount)
    assert transition.priority == pytest.approx(abs(reward + discount * episode.value(end) - episode.q(start)))
    assert len(transition.frames_FHW) == episode.stack + min(k, episode.stack)
    assert np.array_equal(transition.frames_FHW[: episode.stack], episode.obs(start))
    assert np.array_equal(transition.frames_FHW[-episode.stack :], episode.obs(end))


rewards = st.lists(st.sampled_from([-1.0, 0.0, 0.25, 1.0]), min_size=1, max_size=20)
episodes = st.lists(st.tuples(rewards, st.booleans()), min_size=1, max_size=3)


@given(n=st.integers(1, 8), stack=st.integers(1, 5), steps=episodes)
def test_every_step_gives_one_transition_as_defined(n: int, stack: int, steps: list[tuple[list[float], bool]]) -> None:
    assembler = NStepAssembler(n, GAMMA)  # one for all episodes: nothing may leak from one to the next
    for rewards_of, terminated in steps:
        episode = Episode(stack, rewards_of, terminated)
        found = assemble(assembler, episode)
        assert len(found) == len(rewards_of)
        for start, transition in enumerate(found):
            check(transition, start, episode, n)


def test_a_transition_is_given_as_soon_as_its_successor_is_known() -> None:
    assembler, episode = NStepAssembler(2, GAMMA), Episode(1, [0.0] * 5, terminated=True)
    given_at = []
    for step in range(5):
        given_at.append(len(assembler.observe(episode.obs(step), 0.0)))
        assembler.add(episode.obs(step), 0, 0.0, 0.0)
    assert given_at == [0, 0, 1, 1, 1]


def test_what_a_truncated_episode_would_still_have_been_worth_counts() -> None:
    (transition,) = assemble(NStepAssembler(3, GAMMA), Episode(1, [1.0], terminated=False))
    assert (transition.reward, transition.discount) == (1.0, GAMMA)
    assert transition.priority == pytest.approx(1.0 + GAMMA * 4.0)
