"""A panel in the format of Kibana's Lens: the columns of one table, and a visualisation that refers to them.

Kibana nests the buckets in the order of the columns. The split comes before the x-axis, so that its values are those of
the whole time range instead of different ones at each point of the axis.
"""

from typing import Any

from borgcore.events.reference import list_fields
from borgsetup.kibana.format import in_words
from borgsetup.kibana.panel import DATA_VIEWS, TIME, Metric, Panel

SPLIT_VALUES = 64  # as many as the agents that the monitor counts
MAX_BARS = 60  # points along an axis of numbers; with "auto" Kibana takes 500, so that most hold one episode
_X = "x"


def lens_attributes(panel: Panel) -> dict[str, Any]:
    """Return the attributes of a Lens object, which a dashboard's panel contains by value."""
    columns = _columns(panel)
    layer = {"columnOrder": list(columns), "columns": columns, "incompleteColumns": {}, "sampling": 1}
    visualization_type, visualization = _visualization(panel)
    return {
        "type": "lens",
        "title": panel.title,
        "description": panel.help_text,
        "visualizationType": visualization_type,
        "references": [reference_data_view(panel)],
        "state": {
            "datasourceStates": {"formBased": {"layers": {_layer_id(panel): layer}}},
            "visualization": visualization,
            "query": {"language": "kuery", "query": f'event : "{panel.event.name}"'},
            "filters": [],
            "internalReferences": [],  # to data views of the panel's own
            "adHocDataViews": {},
        },
    }


def reference_data_view(panel: Panel) -> dict[str, str]:
    """Return the reference by which Lens finds the data view of its layer; a stored layer does not name one itself."""
    name = f"indexpattern-datasource-layer-{_layer_id(panel)}"
    return {"type": "index-pattern", "id": DATA_VIEWS[panel.event.topic], "name": name}


def _layer_id(panel: Panel) -> str:
    return f"layer-{panel.id}"


def _split_ids(panel: Panel) -> list[str]:
    return [f"split-{number}" for number in range(len(panel.split))]


def _metric_ids(panel: Panel) -> list[str]:
    return [f"metric-{number}" for number in range(len(panel.metrics))]


def _columns(panel: Panel) -> dict[str, dict[str, Any]]:
    types = {field.name: field.json_type for field in list_fields(panel.event)}
    columns = {
        column_id: _terms(field, "string" if types[field] == "string" else "number")
        for column_id, field in zip(_split_ids(panel), panel.split, strict=True)
    }
    if panel.has_axis:
        columns[_X] = _time_axis(panel) if panel.x == TIME else _number_axis(panel)
    return columns | {
        column_id: _metric(panel, metric) for column_id, metric in zip(_metric_ids(panel), panel.metrics, strict=True)
    }


def _terms(field: str, data_type: str) -> dict[str, Any]:
    return {
        "label": in_words(field),
        "customLabel": True,
        "dataType": data_type,
        "operationType": "terms",
        "scale": "ordinal",
        "sourceField": field,
        "isBucketed": True,
        "params": {
            "size": SPLIT_VALUES,
            "orderBy": {"type": "alphabetical", "fallback": False},
            "orderDirection": "asc",
            "otherBucket": False,
            "missingBucket": False,
            "parentFormat": {"id": "terms"},
        },
    }


def _time_axis(panel: Panel) -> dict[str, Any]:
    return {
        "label": panel.x_title,
        "customLabel": True,
        "dataType": "date",
        "operationType": "date_histogram",
        "scale": "interval",
        "sourceField": TIME,
        "isBucketed": True,
        "params": {"interval": "auto", "includeEmptyRows": True, "dropPartials": False},
    }


def _number_axis(panel: Panel) -> dict[str, Any]:
    return {
        "label": panel.x_title,
        "customLabel": True,
        "dataType": "number",
        "operationType": "range",  # with type histogram: intervals of equal width, which Kibana chooses
        "scale": "interval",
        "sourceField": panel.x,
        "isBucketed": True,
        "params": {
            "type": "histogram",
            "maxBars": MAX_BARS,
            "ranges": [{"from": 0, "to": 1000, "label": ""}],  # unused by this type, but always present
            "includeEmptyRows": False,
        },
    }


def _metric(panel: Panel, metric: Metric) -> dict[str, Any]:
    params: dict[str, Any] = {"emptyAsNull": False} if metric.operation in {"count", "sum"} else {}
    number = panel.format_of(metric)
    if number is not None:
        params["format"] = {"id": number.id, "params": {"decimals": number.decimals}}
    column = {
        "label": panel.label_of(metric),
        "customLabel": True,
        "dataType": "date" if number is None else "number",
        "operationType": metric.operation,
        "scale": "ratio",
        "sourceField": metric.field or "___records___",  # Lens's name for whole documents
        "isBucketed": False,
        "params": params,
    }
    return column | ({"reducedTimeRange": metric.newest} if metric.newest else {})


def _visualization(panel: Panel) -> tuple[str, dict[str, Any]]:
    layer: dict[str, Any] = {"layerId": _layer_id(panel), "layerType": "data"}
    if panel.chart == "number":
        return "lnsMetric", layer | {"metricAccessor": _metric_ids(panel)[0], "showBar": False}
    if panel.chart == "table":
        ids = [*_split_ids(panel), *_metric_ids(panel)]
        return "lnsDatatable", layer | {"columns": [{"columnId": column_id} for column_id in ids]}
    layer |= {"seriesType": panel.chart, "xAccessor": _X, "accessors": _metric_ids(panel)}
    legend: dict[str, Any] = {"isVisible": True, "position": "bottom", "showSingleSeries": bool(panel.split)}
    if panel.split:
        layer["splitAccessor"] = _split_ids(panel)[0]
        legend |= {"title": panel.split_title, "isTitleVisible": True}
    return "lnsXY", {
        "layers": [layer],
        "preferredSeriesType": panel.chart,
        "legend": legend,
        "valueLabels": "hide",
        "xTitle": panel.x_title,
        "yTitle": panel.y_title,
        "axisTitlesVisibilitySettings": {"x": True, "yLeft": True, "yRight": True},
    } | _fitting(panel)


def _fitting(panel: Panel) -> dict[str, Any]:
    """Return how gaps are drawn: dashed lines; nothing in stacked charts, whose sum must not count what is drawn in.

    Kibana draws what it fits like the data itself unless ``emphasizeFitting`` is false.
    """
    if panel.chart == "line":
        return {"fittingFunction": "Linear", "emphasizeFitting": False}
    return {"fittingFunction": "None"}
