"""An agent's state as Prometheus reads it, taken from what is there at each scrape."""

import time
from collections.abc import Iterable

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from borgagent.stages.learning import LearningProgress
from borgagent.telemetry.state import AgentState
from borgcore.run.reports import mean_return

RETURN_EPISODES = 20  # newest episodes of which the mean return is shown


def agent_metrics(state: AgentState) -> Iterable[Metric]:
    """Give every metric with the labels run and agent; what has no value yet is left out."""
    acting, replay = state.acting, state.replay
    labels = (state.settings.run, str(state.membership.number))
    yield _counter("borg_agent_steps", "Agent steps of this process.", acting.steps, labels)
    yield _counter("borg_agent_episodes", "Episodes finished by this process.", acting.episodes, labels)
    yield _gauge("borg_agent_epsilon", "Share of random actions.", acting.epsilon, labels)
    newest = mean_return(acting.recent, RETURN_EPISODES)
    if newest is not None:
        yield _gauge("borg_agent_return", f"Mean return of the newest {RETURN_EPISODES} episodes.", newest, labels)
    yield _gauge("borg_agent_weights_version", "Version of the weights rollout with.", acting.weights_version, labels)
    if acting.weights_at_s is not None:
        age_s = time.monotonic() - acting.weights_at_s
        yield _gauge("borg_agent_weights_age_seconds", "Time since the weights in use were fetched.", age_s, labels)
    yield _counter(
        "borg_agent_pause_seconds",
        "Time acting was paused by the limiter or a full queue.",
        acting.all_pauses_s,
        labels,
    )
    yield _counter("borg_agent_stale_priorities", "Priorities that came too late.", replay.stale, labels)
    yield _counter("borg_agent_corrupt_transitions", "Transitions that did not decode.", replay.corrupt, labels)
    yield _gauge("borg_run_agents", "Agents of the run that are alive.", state.membership.agents, labels)
    if state.learning is not None and state.learning.trained:
        yield from _learner_metrics(state.learning, state.settings.learner.batch_size, labels)


def _learner_metrics(learning: LearningProgress, batch_size: int, labels: tuple[str, str]) -> Iterable[Metric]:
    yield _counter(
        "borg_learner_updates", "Train steps since the run began, restarts included.", learning.updates, labels
    )
    yield _gauge("borg_learner_batch_size", "Transitions per train step.", batch_size, labels)
    yield _gauge("borg_learner_loss", "Mean Huber loss, weighted by importance.", learning.loss, labels)
    yield _gauge("borg_learner_mean_q", "Mean Q value of the actions in the batches.", learning.mean_q, labels)
    yield _counter("borg_learner_wait_seconds", "Time spent waiting for data.", learning.wait_s, labels)
    yield _counter(
        "borg_learner_limiter_wait_seconds", "Time spent waiting for the limiter.", learning.limiter_s, labels
    )


def _counter(name: str, text: str, value: float, labels: tuple[str, str]) -> Metric:
    family = CounterMetricFamily(name, text, labels=("run", "agent"))
    family.add_metric(labels, value)
    return family


def _gauge(name: str, text: str, value: float, labels: tuple[str, str]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=("run", "agent"))
    family.add_metric(labels, value)
    return family
