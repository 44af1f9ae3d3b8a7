import time

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from borgagent.dqn.actor import Episode, Rollout
from borgagent.stages.learning import LearningProgress
from borgagent.telemetry.metrics import agent_metrics
from borgagent.telemetry.state import AgentState
from borgcore.events.training import AgentReported, LearnerReported


def scrape(state: AgentState) -> dict[str, float]:
    """What a Prometheus reads, by name; every sample has the agent's labels."""

    class Source(Collector):
        def collect(self):  # type: ignore[no-untyped-def]  # as the library calls it  # noqa: ANN202  # the same
            return agent_metrics(state)

    registry = CollectorRegistry()
    registry.register(Source())
    text = generate_latest(registry).decode()
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    assert all(sample.labels == {"run": "r1", "agent": str(state.membership.number)} for sample in samples)
    return {sample.name: sample.value for sample in samples}


def test_an_agent_that_has_just_begun_shows_no_value_that_there_is_not(state: AgentState) -> None:
    found = scrape(state)
    assert found["borg_agent_steps_total"] == 0.0
    absent = ["borg_agent_return", "borg_agent_weights_age_seconds", "borg_learner_updates_total", "borg_learner_loss"]
    assert [name for name in absent if name in found] == []


def test_an_actors_metrics_are_its_state_at_the_scrape(state: AgentState) -> None:
    episodes = [Episode(float(number), 9, truncated=False, ended_at=1) for number in range(30)]
    state.acting.count(Rollout(steps=300, episodes=episodes))
    state.acting.epsilon, state.acting.weights_version, state.acting.pause_s = 0.5, 8, 1.25
    state.acting.weights_at_s = time.monotonic() - 2.0
    found = scrape(state)
    assert 1.999 < found.pop("borg_agent_weights_age_seconds") < time.monotonic() - state.acting.weights_at_s + 0.001
    assert found == {
        "borg_agent_steps_total": 300.0,
        "borg_agent_episodes_total": 30.0,
        "borg_agent_epsilon": 0.5,
        "borg_agent_return": sum(range(10, 30)) / 20,
        "borg_agent_weights_version": 8.0,
        "borg_agent_pause_seconds_total": 1.25,
        "borg_agent_stale_priorities_total": 7.0,
        "borg_agent_corrupt_transitions_total": 2.0,
        "borg_run_agents": 3.0,
    }
    state.acting.count(Rollout(steps=5))
    assert scrape(state)["borg_agent_steps_total"] == 305.0


def test_a_learners_metrics_are_beside_them(state: AgentState) -> None:
    state.learning = LearningProgress(updates=40, resumed_at=30, wait_s=1.5, limiter_s=2.5, loss=0.25, mean_q=0.75)
    found = {name: value for name, value in scrape(state).items() if name.startswith("borg_learner")}
    assert found == {
        "borg_learner_updates_total": 40.0,
        "borg_learner_batch_size": 64.0,
        "borg_learner_loss": 0.25,
        "borg_learner_mean_q": 0.75,
        "borg_learner_wait_seconds_total": 1.5,
        "borg_learner_limiter_wait_seconds_total": 2.5,
    }


def test_a_number_that_changes_changes_the_label(state: AgentState) -> None:
    state.membership.number = 2  # type: ignore[misc]  # a fake
    assert scrape(state)["borg_agent_steps_total"] == 0.0


def test_every_figure_of_the_events_but_rates_has_a_metric(state: AgentState) -> None:
    state.acting.count(Rollout(steps=1, episodes=[Episode(0.0, 9, truncated=False, ended_at=1)] * 20))
    state.acting.weights_at_s = time.monotonic()
    state.learning = LearningProgress(updates=40, resumed_at=30)
    figures = [*AgentReported.figures().values(), *LearnerReported.figures().values()]
    shown = [figure for figure in figures if figure.kind != "rate" and figure.metric != ""]
    assert len(scrape(state)) == len(shown) > 10
