"""An agent's figures as Prometheus metrics, computed at each scrape.

Names, kinds and help texts come from the fields of the events. Rates are not exported, since Prometheus computes them
from the counters; a share is exported as the counter of seconds behind it.
"""

from collections.abc import Iterable, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from borgagent.telemetry.state import AgentState
from borgcore.events.schema import Event
from borgcore.events.training import AgentReported, LearnerReported


def agent_metrics(state: AgentState) -> Iterable[Metric]:
    """Yield every metric that has a value, with the labels run and agent."""
    labels = (state.settings.run, str(state.membership.number))
    figures = state.agent_figures() | {"pause_share": state.acting.all_pauses_s}
    yield from _metrics(AgentReported, "borg_agent_", figures, labels)
    learning = state.learning
    if learning is not None and learning.trained:
        waits = {"wait_share": learning.wait_s, "limiter_share": learning.limiter_s}
        yield from _metrics(LearnerReported, "borg_learner_", state.learner_figures(learning) | waits, labels)


def _metrics(
    event: type[Event], prefix: str, values: Mapping[str, float | None], labels: tuple[str, str]
) -> Iterable[Metric]:
    for name, figure in event.figures().items():
        metric, value = prefix + name if figure.metric is None else figure.metric, values.get(name)
        if figure.kind == "rate" or not metric or value is None:
            continue
        text = event.help_text(name)
        if figure.kind == "share":
            text = text.replace("Share of the time", "Seconds")
        family = (GaugeMetricFamily if figure.kind == "gauge" else CounterMetricFamily)(
            metric, text, labels=("run", "agent")
        )
        family.add_metric(labels, value)
        yield family
