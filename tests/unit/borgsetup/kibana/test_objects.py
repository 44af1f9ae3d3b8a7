import json
import subprocess
import sys
from itertools import combinations
from typing import Any

from borgsetup.kibana.objects import ndjson
from tests.limits import HANG_S

from .saved import CONTROLS, DASHBOARD, FILE, OBJECTS, PANELS, VIEWS, tables

# Kibana 8.19 refuses a dashboard with any other attribute.
KNOWN_ATTRIBUTES = {
    "controlGroupInput",
    "description",
    "kibanaSavedObjectMeta",
    "optionsJSON",
    "panelsJSON",
    "refreshInterval",
    "timeFrom",
    "timeRestore",
    "timeTo",
    "title",
}


def test_the_committed_file_is_what_its_source_makes_today() -> None:
    assert FILE.read_bytes() == ndjson()


def test_the_module_prints_the_file() -> None:
    done = subprocess.run([sys.executable, "-m", "borgsetup.kibana"], capture_output=True, check=True, timeout=HANG_S)
    assert done.stdout == FILE.read_bytes()


def test_each_line_is_an_object_with_what_an_import_needs() -> None:
    needed = {"type", "id", "attributes", "references", "coreMigrationVersion", "typeMigrationVersion"}
    assert [set(one) for one in OBJECTS] == [needed] * 3


def test_ids_are_fixed() -> None:
    assert [(one["type"], one["id"]) for one in OBJECTS] == [
        ("index-pattern", "borg-training-log"),
        ("index-pattern", "borg-memory-monitoring"),
        ("dashboard", "borg-dqn-training"),
    ]


def test_versions_are_none_that_kibana_8_19_has_yet_to_learn() -> None:
    versions = {one["type"]: (one["coreMigrationVersion"], one["typeMigrationVersion"]) for one in OBJECTS}
    assert versions == {"index-pattern": ("8.8.0", "8.0.0"), "dashboard": ("8.8.0", "10.2.0")}


def test_a_data_view_shows_the_indices_of_its_topic_by_their_time() -> None:
    assert VIEWS == {"borg-training-log": "training_log-*", "borg-memory-monitoring": "memory_monitoring-*"}
    views = [one["attributes"] for one in OBJECTS if one["id"] in VIEWS]
    assert [view["timeFieldName"] for view in views] == ["@timestamp"] * 2


def test_the_dashboard_has_its_title_and_only_attributes_that_kibana_knows() -> None:
    assert DASHBOARD["attributes"]["title"] == "Borg-DQN Training"
    assert set(DASHBOARD["attributes"]) == KNOWN_ATTRIBUTES


def test_the_dashboard_opens_on_the_last_half_hour_and_refreshes_every_15_seconds() -> None:
    attributes = DASHBOARD["attributes"]
    assert (attributes["timeRestore"], attributes["timeFrom"], attributes["timeTo"]) == (True, "now-30m", "now")
    assert attributes["refreshInterval"] == {"pause": False, "value": 15_000}


def test_every_embedded_string_of_json_is_an_object_or_a_list() -> None:
    found: dict[str, type] = {}

    def visit(value: Any) -> None:
        for name, inner in value.items():
            if name.endswith("JSON"):
                found[name] = type(json.loads(inner))
            elif isinstance(inner, dict):
                visit(inner)

    visit(DASHBOARD["attributes"])
    assert found == {
        "ignoreParentSettingsJSON": dict,
        "optionsJSON": dict,
        "panelsJSON": list,
        "searchSourceJSON": dict,
    }
    assert isinstance(CONTROLS, dict)


def test_every_reference_is_to_an_object_in_the_file() -> None:
    known = {(one["type"], one["id"]) for one in OBJECTS}
    inner = [ref for panel in PANELS for ref in panel["embeddableConfig"]["attributes"]["references"]]
    for reference in [*DASHBOARD["references"], *inner]:
        assert (reference["type"], reference["id"]) in known


def test_lens_finds_the_data_view_of_every_layer_by_name_in_the_panel_and_in_the_dashboard() -> None:
    outer = {reference["name"]: reference["id"] for reference in DASHBOARD["references"]}
    for panel, table in zip(PANELS, tables(), strict=True):
        ((name, view),) = ((ref["name"], ref["id"]) for ref in panel["embeddableConfig"]["attributes"]["references"])
        assert name == f"indexpattern-datasource-layer-{table.layer_id}"
        assert outer[f"{table.panel_id}:{name}"] == view


def test_the_dashboard_refers_to_nothing_that_no_panel_or_control_asks_for() -> None:
    names = [reference["name"] for reference in DASHBOARD["references"]]
    expected = [f"{table.panel_id}:indexpattern-datasource-layer-{table.layer_id}" for table in tables()]
    expected += [f"controlGroup_{name}:optionsListDataView" for name in CONTROLS]
    assert sorted(names) == sorted(expected)
    assert len(set(names)) == len(names)


def test_one_chooses_by_run_and_then_by_agent() -> None:
    assert [control["type"] for control in CONTROLS.values()] == ["optionsListControl"] * 2
    assert all(control["explicitInput"]["id"] == name for name, control in CONTROLS.items())
    by_order = sorted(CONTROLS.values(), key=lambda control: int(control["order"]))
    assert [control["explicitInput"]["fieldName"] for control in by_order] == ["run", "agent"]
    outer = {reference["name"]: reference["id"] for reference in DASHBOARD["references"]}
    for name, control in CONTROLS.items():
        assert outer[f"controlGroup_{name}:optionsListDataView"] == control["explicitInput"]["dataViewId"]


def test_panels_have_ids_and_titles_of_their_own() -> None:
    assert len({panel["panelIndex"] for panel in PANELS}) == len(PANELS)
    assert len({panel["embeddableConfig"]["title"] for panel in PANELS}) == len(PANELS)
    assert all(panel["gridData"]["i"] == panel["panelIndex"] for panel in PANELS)


def test_panels_fill_the_48_columns_of_the_grid_without_overlap() -> None:
    cells = []
    for panel in PANELS:
        grid = panel["gridData"]
        xs, ys = range(grid["x"], grid["x"] + grid["w"]), range(grid["y"], grid["y"] + grid["h"])
        cells.append({(x, y) for x in xs for y in ys})
    assert all(first.isdisjoint(second) for first, second in combinations(cells, 2))
    covered = set().union(*cells)
    assert covered == {(x, y) for x in range(48) for y in range(max(y for _, y in covered) + 1)}
