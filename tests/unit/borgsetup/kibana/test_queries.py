from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from borgsetup.kibana.lens import lens_attributes
from borgsetup.kibana.panel import Panel, place_panels
from borgsetup.kibana.panels import ROWS
from borgsetup.kibana.queries import TimeRange, number_interval, search_body

from .saved import TYPES

PANELS = [panel for panel, _ in place_panels(ROWS)]
SPAN = TimeRange(datetime(2026, 11, 22, 10, 0, tzinfo=UTC), datetime(2026, 11, 22, 10, 30, tzinfo=UTC))
OPERATIONS = {"average": "avg", "max": "max", "sum": "sum", "terms": "terms", "range": "histogram"}
OPERATIONS["date_histogram"] = "date_histogram"


def asked(aggs: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Every aggregation of a field, from the outside in."""
    for agg in aggs.values():
        yield from ((kind, inner["field"]) for kind, inner in agg.items() if "field" in inner)
        yield from asked(agg.get("aggs", {}))


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: str(panel.id))
def test_a_query_asks_for_the_columns_of_the_panel_in_their_order(panel: Panel) -> None:
    (layer,) = lens_attributes(panel)["state"]["datasourceStates"]["formBased"]["layers"].values()
    columns = [layer["columns"][name] for name in layer["columnOrder"]]
    expected = [(column["operationType"], column["sourceField"]) for column in columns]
    assert list(asked(search_body(panel, SPAN)["aggs"])) == [
        (OPERATIONS[operation], field) for operation, field in expected if operation != "count"
    ]


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: str(panel.id))
def test_every_field_that_a_query_asks_for_is_indexed(panel: Panel) -> None:
    body = search_body(panel, SPAN)
    event, in_span = body["query"]["bool"]["filter"]
    assert event == {"term": {"event": {"value": panel.event.name}}}
    assert {field for _, field in asked(body["aggs"])} | {*event["term"], *in_span["range"]} <= set(
        TYPES[panel.event.topic]
    )


def test_a_query_over_time_and_agents_in_full() -> None:
    (panel,) = (panel for panel in PANELS if panel.id == "policy-lag")
    start, end = "2026-11-22T10:00:00+00:00", "2026-11-22T10:30:00+00:00"
    assert search_body(panel, SPAN) == {
        "size": 0,
        "track_total_hits": True,
        "query": {
            "bool": {
                "filter": [
                    {"term": {"event": {"value": "agent_reported"}}},
                    {"range": {"@timestamp": {"format": "strict_date_optional_time", "gte": start, "lte": end}}},
                ]
            }
        },
        "aggs": {
            "0": {
                "terms": {"field": "agent", "size": 64, "order": {"_key": "asc"}},
                "aggs": {
                    "1": {
                        "date_histogram": {
                            "field": "@timestamp",
                            "fixed_interval": "30s",
                            "time_zone": "UTC",
                            "min_doc_count": 0,
                            "extended_bounds": {"min": 1795341600000, "max": 1795343400000},
                        },
                        "aggs": {"2": {"avg": {"field": "weights_age_s"}}},
                    }
                },
            }
        },
    }


def test_what_is_true_now_is_asked_of_the_last_minute_alone() -> None:
    (panel,) = (panel for panel in PANELS if panel.id == "agents-alive-now")
    limits = {"gte": "2026-11-22T10:29:00+00:00", "lte": "2026-11-22T10:30:00+00:00"}
    assert search_body(panel, SPAN)["aggs"] == {
        "0": {
            "filter": {
                "bool": {"filter": [{"range": {"@timestamp": {"format": "strict_date_optional_time"} | limits}}]}
            },
            "aggs": {"0-metric": {"max": {"field": "replay_agents"}}},
        }
    }


@pytest.mark.parametrize(
    ("lowest", "highest", "interval"),
    [
        (0, 0, 1),
        (5, 64, 1),
        (0, 60, 1),
        (0, 61, 2),
        (0, 300, 5),
        (0, 301, 10),
        (2500, 7500, 100),
        (850, 600_000, 10_000),
        (0, 600_001, 20_000),
    ],
)
def test_an_axis_of_numbers_has_at_most_60_points_at_round_intervals(lowest: int, highest: int, interval: int) -> None:
    assert number_interval(lowest, highest) == interval
