import pytest

from borgcore.run.reports import AgentReport, LearnerReport, mean_return


def test_the_mean_return_is_over_the_newest_episodes_by_time() -> None:
    assert mean_return([(3.0, 30.0), (1.0, 10.0), (2.0, 20.0)], last=2) == pytest.approx(25.0)


def test_there_is_no_mean_return_before_enough_episodes_have_ended() -> None:
    assert mean_return([(1.0, 10.0)], last=2) is None
    assert mean_return([], last=1) is None


def test_a_report_gives_the_mean_of_its_own_episodes() -> None:
    report = AgentReport(
        agent=1,
        pid=2,
        at_s=3.0,
        steps=4,
        steps_per_s=5.0,
        episodes=2,
        epsilon=0.5,
        weights_version=7,
        recent=[(1.0, -1.0), (2.0, 1.0)],
    )
    assert report.mean_return(2) == pytest.approx(0.0)
    assert report.mean_return() is None


def test_samples_are_the_transitions_trained_on() -> None:
    learner = LearnerReport(
        updates=9, updates_per_s=8.0, loss=0.5, mean_q=0.25, wait_share=0.0, limiter_share=0.0, batch_size=64
    )
    assert learner.samples_per_s == pytest.approx(512.0)
