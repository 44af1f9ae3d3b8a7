import pytest

from borgcore.events.training import AgentReported
from borgcore.run.reports import mean_return
from tests.reports import LEARNER, QUIET, report_of


def test_the_mean_return_is_over_the_newest_episodes_by_time() -> None:
    assert mean_return([(3.0, 30.0), (1.0, 10.0), (2.0, 20.0)], last=2) == pytest.approx(25.0)


def test_there_is_no_mean_return_before_enough_episodes_have_ended() -> None:
    assert mean_return([(1.0, 10.0)], last=2) is None
    assert mean_return([], last=1) is None


def test_a_report_gives_the_mean_of_its_own_episodes() -> None:
    report = report_of(recent=((1.0, -1.0), (2.0, 1.0)))
    assert report.mean_return(2) == pytest.approx(0.0)
    assert report.mean_return() is None


def test_a_report_is_the_events_that_the_agent_publishes() -> None:
    quiet = AgentReported(**{name: QUIET[name] for name in AgentReported.model_fields})
    assert report_of().events == [quiet]
    assert report_of(learner=LEARNER).events == [quiet, LEARNER]
