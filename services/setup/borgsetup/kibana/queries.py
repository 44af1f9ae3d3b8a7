"""The request that Kibana sends to Elasticsearch for a panel; tests send it without Kibana."""

import math
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from borgsetup.kibana.lens import MAX_BARS, SPLIT_VALUES
from borgsetup.kibana.panel import TIME, Metric, Operation, Panel

_AGGREGATIONS: dict[Operation, str] = {"average": "avg", "max": "max", "sum": "sum"}  # every bucket has its count
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours"}


@dataclass(frozen=True)
class TimeRange:
    """The time range of the dashboard, and the intervals into which Kibana divides it."""

    start: datetime
    end: datetime
    time_interval: str = "30s"  # Kibana's ``auto`` for 30 minutes
    number_interval: float = 1000  # see number_interval()


def number_interval(lowest: int, highest: int) -> int:
    """Return the interval that Kibana chooses for an axis of integers: 1, 2 or 5 times a power of ten.

    Source: Kibana 8.19, calculateAutoInterval in histogram_calculate_interval.ts.
    """
    span = highest - lowest
    if span < MAX_BARS:
        return 1
    power = int(10 ** math.floor(math.log10(span / MAX_BARS)))
    return next(power * times for times in (1, 2, 5, 10) if span / (power * times) <= MAX_BARS)


def search_body(panel: Panel, span: TimeRange) -> dict[str, Any]:
    """Return the body of ``_search`` on a topic's indices; aggregations are named by the numbers of the columns."""
    aggs: dict[str, Any] = {}
    number = len(panel.split) + panel.has_axis
    for i, metric in enumerate(panel.metrics):
        if metric.operation != "count":
            aggs[str(number + i)] = _metric(metric, str(number + i), span)
    if panel.has_axis:
        aggs = {str(len(panel.split)): _axis(panel, span) | {"aggs": aggs}}
    for i, field in reversed(list(enumerate(panel.split))):
        aggs = {str(i): {"terms": {"field": field, "size": SPLIT_VALUES, "order": {"_key": "asc"}}, "aggs": aggs}}
    in_span = _between(span.start, span.end)
    return {
        "size": 0,
        "track_total_hits": True,
        "query": {"bool": {"filter": [{"term": {"event": {"value": panel.event.name}}}, in_span]}},
        "aggs": aggs,
    }


def _metric(metric: Metric, name: str, span: TimeRange) -> dict[str, Any]:
    computed = {_AGGREGATIONS[metric.operation]: {"field": metric.field}}
    if metric.newest is None:
        return computed
    newest = timedelta(**{_UNITS[metric.newest[-1]]: int(metric.newest[:-1])})
    in_newest = _between(span.end - newest, span.end)
    return {"filter": {"bool": {"filter": [in_newest]}}, "aggs": {f"{name}-metric": computed}}


def _axis(panel: Panel, span: TimeRange) -> dict[str, Any]:
    if panel.x != TIME:
        return {"histogram": {"field": panel.x, "interval": span.number_interval, "min_doc_count": 1}}
    bounds = {"min": _milliseconds(span.start), "max": _milliseconds(span.end)}
    histogram = {"field": TIME, "fixed_interval": span.time_interval, "time_zone": "UTC"}
    return {"date_histogram": histogram | {"min_doc_count": 0, "extended_bounds": bounds}}


def _between(start: datetime, end: datetime) -> dict[str, Any]:
    limits = {"gte": start.isoformat(), "lte": end.isoformat()}
    return {"range": {TIME: {"format": "strict_date_optional_time"} | limits}}


def _milliseconds(time: datetime) -> int:
    return round(time.timestamp() * 1000)
