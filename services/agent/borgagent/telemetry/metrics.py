"""An agent's figures as Prometheus reads them, taken from what is there at each scrape.

Names, kinds and help come from the fields of the events. A rate has no metric, since Prometheus computes rates itself;
in the place of a share stands the counter of seconds behind it.
"""

from collections.abc import Iterable, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from borgagent.telemetry.state import AgentState
from borgcore.events.schema import Event, Figure
from borgcore.events.training import AgentReported, LearnerReported

_Labels = tuple[str, str]


def agent_metrics(state: AgentState) -> Iterable[Metric]:
    """Give every metric with the labels run and agent; what has no value yet is left out."""
    labels = (state.settings.run, str(state.membership.number))
    figures = state.agent_figures() | {"pause_share": state.acting.all_pauses_s}
    yield from _metrics(AgentReported, "borg_agent_", figures, labels)
    learning = state.learning
    if learning is not None and learning.trained:
        waits = {"wait_share": learning.wait_s, "limiter_share": learning.limiter_s}
        yield from _metrics(LearnerReported, "borg_learner_", state.learner_figures(learning) | waits, labels)


def _metrics(event: type[Event], prefix: str, values: Mapping[str, float | None], labels: _Labels) -> Iterable[Metric]:
    for name, figure in event.figures().items():
        metric, value = prefix + name if figure.metric is None else figure.metric, values.get(name)
        if metric and value is not None:
            yield _metric(figure, metric, event.model_fields[name].description or "", value, labels)


def _metric(figure: Figure, name: str, text: str, value: float, labels: _Labels) -> Metric:
    text = " ".join(text.split())
    if figure.kind == "share":
        text = text.replace("Share of the time", "Seconds")
    kind = GaugeMetricFamily if figure.kind == "gauge" else CounterMetricFamily
    family = kind(name, text, labels=("run", "agent"))
    family.add_metric(labels, value)
    return family
