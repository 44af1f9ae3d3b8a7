import json
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from .dashboard_types import AnySavedObject, DashboardObject, DataViewObject, LensPanel
from .lens_types import XYState
from .saved import DASHBOARD, FILE, PANELS

OBJECT: TypeAdapter[DashboardObject | DataViewObject] = TypeAdapter(AnySavedObject)
PARSED = [OBJECT.validate_json(line) for line in FILE.read_bytes().splitlines()]
STATES = [
    panel.embeddable_config.attributes.state.visualization
    for one in PARSED
    if isinstance(one, DashboardObject)
    for panel in one.attributes.panels_json
]
CHARTS = [state for state in STATES if isinstance(state, XYState)]


def test_every_object_of_the_file_has_only_attributes_of_kibanas_types() -> None:
    assert [one.type for one in PARSED] == ["index-pattern", "index-pattern", "dashboard"]
    assert len(STATES) == len(PANELS)
    assert len(CHARTS) == len(PANELS) - 7  # 6 single numbers and a table


@pytest.mark.parametrize("path", ["attributes", "attributes.refreshInterval", "attributes.controlGroupInput"])
def test_an_attribute_that_kibana_does_not_know_is_found(path: str) -> None:
    changed = json.loads(json.dumps(DASHBOARD))
    inner: dict[str, Any] = changed
    for name in path.split("."):
        inner = inner[name]
    inner["colour"] = "red"
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        OBJECT.validate_json(json.dumps(changed))


def test_an_attribute_of_a_chart_that_kibana_does_not_know_is_found() -> None:
    changed = json.loads(json.dumps(next(panel for panel in PANELS if panel["panelIndex"] == "loss")))
    changed["embeddableConfig"]["attributes"]["state"]["visualization"]["lineColour"] = "red"
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        LensPanel.model_validate_json(json.dumps(changed))


def test_lines_are_dashed_over_gaps_and_stacked_charts_do_not_fill_them() -> None:
    assert {chart.preferred_series_type: (chart.fitting_function, chart.emphasize_fitting) for chart in CHARTS} == {
        "line": ("Linear", False),
        "area_stacked": ("None", None),
        "bar_stacked": ("None", None),
    }


def test_every_axis_has_a_title_in_words() -> None:
    for chart in CHARTS:
        assert chart.axis_titles_visibility_settings.x
        assert chart.axis_titles_visibility_settings.y_left
        for title in (chart.x_title, chart.y_title):
            assert title[:1].isupper(), title
            assert not set("_/@") & set(title), title


def test_the_legend_of_every_split_chart_has_a_title() -> None:
    split = [chart for chart in CHARTS if chart.layers[0].split_accessor]
    assert {chart.legend.title for chart in split} == {"Agent", "Node", "Shipper", "Service"}
    assert all(chart.legend.is_title_visible and chart.legend.show_single_series for chart in split)
    assert not any(chart.legend.title for chart in CHARTS if chart not in split)


def test_agents_are_named_in_legends_without_a_title() -> None:
    for one in PARSED[:2]:
        assert isinstance(one, DataViewObject)
        entries = one.attributes.field_format_map["agent"].params.lookup_entries
        assert [(entry.key, entry.value) for entry in entries] == [(str(n), f"Agent {n}") for n in range(1, 65)]
