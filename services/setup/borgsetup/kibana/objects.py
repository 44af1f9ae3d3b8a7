"""Kibana's saved objects: a data view for each topic, and the dashboard with its panels by value.

Ids are fixed, so that an import replaces the previous one. The versions are those of the format written here, not of
Kibana: Kibana 8.19 migrates older formats and refuses newer ones.
"""

from collections.abc import Collection
from dataclasses import asdict
from typing import Any

import orjson

from borgcore.events.topics import TOPICS, Topic
from borgsetup.kibana.lens import SPLIT_VALUES, lens_attributes, reference_data_view
from borgsetup.kibana.panel import DATA_VIEWS, TIME, Panel, Place, place_panels
from borgsetup.kibana.panels import ROWS

DASHBOARD = "borg-dqn-training"
CONTROLS = {"run": "prefix", "agent": "exact"}
"""Fields to filter by, and how Kibana searches their values: numbers have no prefix search."""
REFRESH_MS = 15_000  # all panels ask at once, and Elasticsearch has a heap of 512 MB
_CONTROLLED: Topic = "training_log"  # all its events have both fields
_NAMED_AGENTS = {
    "id": "static_lookup",
    "params": {"lookupEntries": [{"key": str(n), "value": f"Agent {n}"} for n in range(1, SPLIT_VALUES + 1)]},
}
"""A legend below a chart has no title in Kibana 8.19, so each agent's number says what it is."""


def saved_objects() -> list[dict[str, Any]]:
    """Return all objects, each after those that it refers to."""
    return [*(_data_view(topic) for topic in TOPICS), _dashboard()]


def ndjson(without: Collection[str] = ()) -> bytes:
    """Return the file that Kibana imports, one object per line, without those that have one of the ids."""
    return b"".join(_dump(one) + b"\n" for one in saved_objects() if one["id"] not in without)


def _dump(value: object) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def _embed(value: object) -> str:
    return _dump(value).decode()


def _data_view(topic: Topic) -> dict[str, Any]:
    return {
        "type": "index-pattern",
        "id": DATA_VIEWS[topic],
        "attributes": {
            "title": f"{topic}-*",
            "name": f"Borg-DQN {topic}",
            "timeFieldName": TIME,
            "allowNoIndex": True,  # imported before the first event exists
            "fieldFormatMap": _embed({"agent": _NAMED_AGENTS}),
        },
        "references": [],
        "coreMigrationVersion": "8.8.0",
        "typeMigrationVersion": "8.0.0",
    }


def _dashboard() -> dict[str, Any]:
    placed = place_panels(ROWS)
    return {
        "type": "dashboard",
        "id": DASHBOARD,
        "attributes": {
            "title": "Borg-DQN Training",
            "description": "How well and how fast the agents learn, their replay memory, and the path of events into "
            "the store. While an agent is selected, panels whose events name no agent are empty.",
            "timeRestore": True,
            "timeFrom": "now-30m",
            "timeTo": "now",
            "refreshInterval": {"pause": False, "value": REFRESH_MS},
            "panelsJSON": _embed([_panel(panel, place) for panel, place in placed]),
            "optionsJSON": _embed(
                {
                    "hidePanelTitles": False,
                    "syncColors": True,  # an agent has the same color in all panels
                    "syncCursor": True,
                    "syncTooltips": False,
                    "useMargins": True,
                }
            ),
            "controlGroupInput": _control_group(),
            "kibanaSavedObjectMeta": {
                "searchSourceJSON": _embed({"filter": [], "query": {"language": "kuery", "query": ""}})
            },
        },
        "references": [*(_prefixed(panel) for panel, _ in placed), *(_control_reference(field) for field in CONTROLS)],
        "coreMigrationVersion": "8.8.0",
        "typeMigrationVersion": "10.2.0",
    }


def _panel(panel: Panel, place: Place) -> dict[str, Any]:
    return {
        "type": "lens",
        "panelIndex": panel.id,
        "gridData": {"i": panel.id} | asdict(place),
        "embeddableConfig": {
            "title": panel.title,
            "description": panel.help_text,
            "hidePanelTitles": panel.chart == "number",  # its label repeats the title
            "attributes": lens_attributes(panel),
            "enhancements": {},
        },
    }


def _prefixed(panel: Panel) -> dict[str, str]:
    reference = reference_data_view(panel)
    return reference | {"name": f"{panel.id}:{reference['name']}"}


def _control_group() -> dict[str, Any]:
    return {
        "controlStyle": "oneLine",
        "chainingSystem": "HIERARCHICAL",  # lists only the agents of the selected run
        "showApplySelections": False,
        "ignoreParentSettingsJSON": _embed(
            {"ignoreFilters": False, "ignoreQuery": False, "ignoreTimerange": False, "ignoreValidations": False}
        ),
        "panelsJSON": _embed({_control_id(field): _control(order, field) for order, field in enumerate(CONTROLS)}),
    }


def _control_id(field: str) -> str:
    return f"choose-{field}"


def _control(order: int, field: str) -> dict[str, Any]:
    return {
        "type": "optionsListControl",
        "order": order,
        "width": "medium",
        "grow": True,
        "explicitInput": {
            "id": _control_id(field),
            "dataViewId": DATA_VIEWS[_CONTROLLED],
            "fieldName": field,
            "title": field.capitalize(),
            "selectedOptions": [],
            "searchTechnique": CONTROLS[field],
            "sort": {"by": "_key", "direction": "asc"},
        },
    }


def _control_reference(field: str) -> dict[str, str]:
    name = f"controlGroup_{_control_id(field)}:optionsListDataView"
    return {"type": "index-pattern", "id": DATA_VIEWS[_CONTROLLED], "name": name}
