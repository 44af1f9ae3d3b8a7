"""The saved objects as Kibana would read them: from the file's bytes, with nothing of our own in between."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from borgcore.events.elasticsearch_templates import index_template
from borgcore.events.topics import TOPICS, Topic

FILE = Path(__file__).parents[4] / "deploy/kibana/dashboard.ndjson"
OBJECTS: list[dict[str, Any]] = [json.loads(line) for line in FILE.read_bytes().splitlines()]
VIEWS: dict[str, str] = {one["id"]: one["attributes"]["title"] for one in OBJECTS if one["type"] == "index-pattern"}
(DASHBOARD,) = (one for one in OBJECTS if one["type"] == "dashboard")
PANELS: list[dict[str, Any]] = json.loads(DASHBOARD["attributes"]["panelsJSON"])
CONTROLS: dict[str, dict[str, Any]] = json.loads(DASHBOARD["attributes"]["controlGroupInput"]["panelsJSON"])
TYPES: dict[Topic, dict[str, str]] = {
    topic: {
        name: mapping["type"]
        for name, mapping in index_template(topic, "", 0)["template"]["mappings"]["properties"].items()
    }
    for topic in TOPICS
}
"""Type of each field in Elasticsearch."""


@dataclass(frozen=True)
class Table:
    """The one layer of a Lens panel."""

    panel_id: str
    layer_id: str
    topic: Topic
    kql: str
    order: list[str]
    columns: dict[str, dict[str, Any]]
    drawn_as: str
    drawing: dict[str, Any]


def topic_of(view: str) -> Topic:
    return next(topic for topic in TOPICS if VIEWS[view] == f"{topic}-*")


def tables() -> Iterator[Table]:
    for panel in PANELS:
        attributes = panel["embeddableConfig"]["attributes"]
        state = attributes["state"]
        ((layer_id, layer),) = state["datasourceStates"]["formBased"]["layers"].items()
        yield Table(
            panel["panelIndex"],
            layer_id,
            topic_of(attributes["references"][0]["id"]),
            state["query"]["query"],
            layer["columnOrder"],
            layer["columns"],
            attributes["visualizationType"],
            state["visualization"],
        )
