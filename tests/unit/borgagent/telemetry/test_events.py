import importlib.metadata
import os

import pytest
import torch
from redis.exceptions import ConnectionError as RedisConnectionError

from borgagent.dqn.actor import Episode, Rollout
from borgagent.telemetry.events import describe_end, episodes_ended, publish_report, publish_run
from borgagent.telemetry.redaction import redact
from borgagent.telemetry.state import AgentState
from borgcore.errors import BorgError
from borgcore.events.training import AgentReported, EpisodeEnded, RunEnded, RunStarted
from tests.reports import LEARNER, QUIET, report_of

from .fakes import FakePublisher

CPU = torch.device("cpu")
ADDRESS = "127.0.0.1:6379"
QUIET_EVENT = {name: QUIET[name] for name in AgentReported.model_fields}


def test_a_run_that_ends_as_asked_is_told_from_begin_to_end(state: AgentState, publisher: FakePublisher) -> None:
    with publish_run(publisher, state, CPU, ADDRESS):  # type: ignore[arg-type]  # a fake
        state.acting.count(Rollout(steps=30, episodes=[Episode(1.0, 9, truncated=False, ended_at=12)]))
        state.membership.number = 1  # type: ignore[misc]  # a fake
    (number, started), (_, ended) = publisher.published
    assert number == 1
    assert started == RunStarted(
        agent=1,
        pid=os.getpid(),
        game="catch",
        preset="tiny",
        learn="elected",
        device="cpu",
        version=importlib.metadata.version("borgagent"),
        settings=redact(state.settings),
    )
    assert isinstance(ended, RunEnded)
    assert 0.0 <= ended.duration_s < 60.0
    assert ended == RunEnded(
        agent=1, pid=os.getpid(), steps=30, episodes=1, duration_s=ended.duration_s, reason="asked"
    )


def test_a_run_that_ends_by_an_error_says_it_and_the_error_goes_on(state: AgentState, publisher: FakePublisher) -> None:
    with (
        pytest.raises(BorgError, match="learning diverged"),
        publish_run(publisher, state, CPU, ADDRESS),  # type: ignore[arg-type]  # a fake
    ):
        raise BorgError("learning diverged;\n this process ends")
    ended = publisher.published[-1][1]
    assert isinstance(ended, RunEnded)
    assert ended.reason == "learning diverged; this process ends"


class Cancelled(BaseException):
    """As the event loops' own."""


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ExceptionGroup("", [ValueError("x"), ExceptionGroup("", [BorgError("mend me")])]), "mend me"),
        (
            ExceptionGroup("", [ValueError("x"), RedisConnectionError("Error 111.")]),
            f"Redis at {ADDRESS} cannot be reached: Error 111.",
        ),
        (TimeoutError("replay push: none"), f"Redis at {ADDRESS} gave no answer in time: replay push: none"),
        (ExceptionGroup("", [KeyError("hunter2")]), "a defect: KeyError"),
        (Cancelled(), "cut off before it had finished"),
    ],
)
def test_the_reason_of_an_end_is_the_line_the_process_leaves(error: BaseException, reason: str) -> None:
    assert describe_end(error, ADDRESS) == reason


def test_each_episode_is_told_with_what_it_came_to_and_where_the_agent_stood(state: AgentState) -> None:
    state.acting.count(Rollout(steps=100, episodes=[Episode(0.0, 50, truncated=False, ended_at=60)]))
    state.acting.epsilon = 0.25
    episodes = [Episode(3.0, 40, truncated=False, ended_at=11), Episode(-2.5, 41, truncated=True, ended_at=30)]
    rollout = Rollout(steps=32, episodes=episodes)
    first, second = episodes_ended(state, rollout, weights_version=6)
    assert first == EpisodeEnded(
        agent=1,
        episode=2,
        episode_return=3.0,
        episode_steps=40,
        truncated=False,
        steps=111,
        inserted=5_000,
        epsilon=0.25,
        weights_version=6,
    )
    assert (second.episode, second.episode_return, second.truncated, second.steps) == (3, -2.5, True, 130)
    assert state.acting.episodes == 1  # telling is not counting


def test_a_report_is_published_under_the_number_that_the_agent_has_now(publisher: FakePublisher) -> None:
    publisher.agent = 5
    report = report_of(agent=2, steps=400, return_20=9.5)
    publish_report(publisher, report)  # type: ignore[arg-type]  # a fake
    ((number, told),) = publisher.published
    assert number == 2
    assert told == AgentReported(**(QUIET_EVENT | {"agent": 2, "steps": 400, "return_20": 9.5}))


def test_what_is_not_known_yet_is_left_out(publisher: FakePublisher) -> None:
    publish_report(publisher, report_of())  # type: ignore[arg-type]  # a fake
    told = publisher.published[0][1].model_dump(exclude_none=True)
    assert {"return_20", "weights_age_s"}.isdisjoint(told)


def test_a_learners_report_is_an_event_of_its_own(publisher: FakePublisher) -> None:
    publish_report(publisher, report_of(agent=2, learner=LEARNER))  # type: ignore[arg-type]  # a fake
    assert isinstance(publisher.published[0][1], AgentReported)
    assert publisher.published[1:] == [(2, LEARNER)]
