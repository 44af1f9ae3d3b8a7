import re

import pytest

from borgcore.events.reference import ENVELOPE, list_events, list_fields

from .saved import CONTROLS, TYPES, Table, tables, topic_of

NUMBERS = {"long", "double"}
FITTING: dict[str, set[str]] = {
    "average": NUMBERS,
    "sum": NUMBERS,
    "max": {*NUMBERS, "date"},
    "terms": {"keyword", "long"},
    "range": NUMBERS,
    "date_histogram": {"date"},
}
KIBANA_TYPES = {"keyword": "string", "long": "number", "double": "number", "date": "date"}
each_table = pytest.mark.parametrize("table", list(tables()), ids=lambda table: str(table.panel_id))


@each_table
def test_every_field_has_an_indexed_type_that_fits_what_is_computed_of_it(table: Table) -> None:
    for column in table.columns.values():
        if column["operationType"] == "count":
            assert column["sourceField"] == "___records___"
        else:
            found = TYPES[table.topic][column["sourceField"]]
            assert found in FITTING[column["operationType"]]
            assert column["dataType"] == KIBANA_TYPES[found]


@each_table
def test_the_query_names_an_event_of_the_topic_that_has_every_field_of_the_panel(table: Table) -> None:
    match = re.fullmatch(r'event : "(\w+)"', table.kql)
    assert match
    (event,) = (event for event in list_events(table.topic) if event.name == match[1])
    fields = {field.name for field in [*ENVELOPE, *list_fields(event)]}
    assert {column["sourceField"] for column in table.columns.values()} - {"___records___"} <= fields


@each_table
def test_columns_are_in_order_buckets_first_and_each_is_drawn(table: Table) -> None:
    assert table.order == list(dict.fromkeys(table.order))
    assert set(table.order) == set(table.columns)
    bucketed = [table.columns[name]["isBucketed"] for name in table.order]
    assert bucketed == sorted(bucketed, reverse=True)
    match table.drawn_as:
        case "lnsXY":
            (layer,) = table.drawing["layers"]
            drawn = [layer["splitAccessor"]] if "splitAccessor" in layer else []
            drawn += [layer["xAccessor"], *layer["accessors"]]
        case "lnsMetric":
            layer, drawn = table.drawing, [table.drawing["metricAccessor"]]
        case _:
            layer, drawn = table.drawing, [column["columnId"] for column in table.drawing["columns"]]
    assert (layer["layerId"], layer["layerType"]) == (table.layer_id, "data")
    assert drawn == table.order


@each_table
def test_only_what_has_no_time_axis_looks_at_the_end_of_the_time_range_alone(table: Table) -> None:
    if any(column["operationType"] == "date_histogram" for column in table.columns.values()):
        assert not any("reducedTimeRange" in column for column in table.columns.values())


@pytest.mark.parametrize("name", CONTROLS)
def test_a_control_offers_the_values_of_an_indexed_field(name: str) -> None:
    control = CONTROLS[name]["explicitInput"]
    found = TYPES[topic_of(control["dataViewId"])][control["fieldName"]]
    assert control["searchTechnique"] == {"keyword": "prefix", "long": "exact"}[found]


def test_reward_over_steps_is_the_mean_return_of_each_agent_over_the_transitions_stored() -> None:
    (table,) = (table for table in tables() if table.panel_id == "reward-over-steps")
    assert [(table.columns[name]["operationType"], table.columns[name]["sourceField"]) for name in table.order] == [
        ("terms", "agent"),
        ("range", "inserted"),
        ("average", "episode_return"),
    ]
    params = table.columns["x"]["params"]
    assert (params["type"], params["maxBars"]) == ("histogram", 60)
