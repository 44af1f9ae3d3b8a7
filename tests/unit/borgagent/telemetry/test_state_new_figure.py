"""A new figure is one field of its event and one field of the stage that computes it; the rest follows."""

from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, cast

import orjson
import pytest

from borgagent.stages.learning import LearningProgress
from borgagent.telemetry import metrics, reporting
from borgagent.telemetry import state as state_module
from borgagent.telemetry.metrics import agent_metrics
from borgagent.telemetry.reporting import Reporter
from borgagent.telemetry.state import AgentState
from borgcli.screen import figures
from borgcli.screen.figures import render_line
from borgcli.screen.progress import RunProgress
from borgcore.events import reference
from borgcore.events.elasticsearch_templates import index_template
from borgcore.events.reference import write_reference
from borgcore.events.schema import Figure
from borgcore.events.topics import Topic
from borgcore.events.training import LearnerReported
from borgcore.run.reports import AgentReport
from borgsetup.kibana.lens import lens_attributes
from borgsetup.kibana.panel import DATA_VIEWS, Metric, Panel

from .fakes import FakePublisher

TOPIC = cast("Topic", "with_a_new_figure")  # of its own, so that the other tests do not find the event


class Extended(LearnerReported):
    topic: ClassVar[Topic] = TOPIC  # type: ignore[assignment]  # a topic of the test alone
    name: ClassVar[str] = "learner_reported"

    grad_norm: Annotated[float, Figure("gauge", "1", label="gradient norm", template=", gradient norm {:.1f}")]
    """Norm of the gradient."""


@dataclass(slots=True)
class ExtendedProgress(LearningProgress):
    grad_norm: float = 2.5


class ExtendedReport(AgentReport):
    learner: Extended | None = None


@pytest.fixture
def learning(state: AgentState, monkeypatch: pytest.MonkeyPatch) -> AgentState:
    for module in (metrics, reporting, state_module):
        monkeypatch.setattr(module, "LearnerReported", Extended)
    monkeypatch.setattr(reporting, "AgentReport", ExtendedReport)
    state.learning = ExtendedProgress(updates=40, resumed_at=30)
    return state


@pytest.fixture
def report(learning: AgentState) -> ExtendedReport:
    measured = Reporter(cast("Any", None), cast("Any", FakePublisher()), learning).measure()
    assert isinstance(measured, ExtendedReport)
    return measured


def test_a_new_figure_is_in_the_report_and_in_the_published_event(report: ExtendedReport) -> None:
    assert orjson.loads(report.model_dump_json())["learner"]["grad_norm"] == 2.5
    published = report.events[-1]
    assert isinstance(published, Extended)
    assert published.grad_norm == 2.5


def test_a_new_figure_is_a_metric(learning: AgentState) -> None:
    (family,) = (metric for metric in agent_metrics(learning) if metric.name == "borg_learner_grad_norm")
    assert (family.type, family.documentation) == ("gauge", "Norm of the gradient.")
    assert [sample.value for sample in family.samples] == [2.5]


def test_a_new_figure_is_shown_in_the_terminal(report: ExtendedReport, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "_LEARNER", Extended.figures())
    progress = RunProgress("one", "pong", 1, now_s=1.0, elapsed_s=1.0, for_s=None, warmup=1, reports=[], stats=None)
    assert ", gradient norm 2.5" in render_line(replace(progress, reports=[report]))


def test_a_new_figure_is_in_the_reference_and_in_the_index_template(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference, "TOPICS", (TOPIC,))
    assert "| `grad_norm` | number | gauge | 1 | Norm of the gradient. |" in write_reference().splitlines()
    properties = index_template(TOPIC, "", 0)["template"]["mappings"]["properties"]
    assert properties["grad_norm"] == {"type": "double"}


def test_a_panel_of_a_new_figure_takes_label_and_description_from_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(DATA_VIEWS, TOPIC, "a-view")
    attributes = lens_attributes(Panel("Gradients", None, Extended, (Metric("average", "grad_norm"),)))
    ((_, layer),) = attributes["state"]["datasourceStates"]["formBased"]["layers"].items()
    assert attributes["description"] == "Norm of the gradient."
    assert layer["columns"]["metric-0"]["label"] == "Gradient norm"
