from copy import deepcopy
from typing import Any

import pytest

from borgcore.events.elasticsearch_templates import index_template
from borgcore.events.template_changes import find_template, fingerprint, list_changes


@pytest.fixture
def wanted() -> dict[str, Any]:
    return index_template("training_log", "", 0)


def as_returned(template: dict[str, Any]) -> dict[str, Any]:
    """The template as Elasticsearch returns it: settings are text, and there are further attributes."""
    found = deepcopy(template)
    index = found["template"]["settings"]["index"]
    index |= {"number_of_shards": "1", "number_of_replicas": str(index["number_of_replicas"])}
    index["mapping"] = {"coerce": "false"}
    return found | {"composed_of": [], "ignore_missing_component_templates": [], "created_date_millis": 1}


def test_the_fingerprint_is_of_the_content_and_not_of_how_it_is_written(wanted: dict[str, Any]) -> None:
    found = as_returned(wanted)
    found["template"]["mappings"]["properties"] = dict(reversed(found["template"]["mappings"]["properties"].items()))
    assert fingerprint(found) == fingerprint(wanted) == wanted["_meta"]["fingerprint"]


def test_nothing_is_changed_in_what_is_missing_or_as_it_was_installed(wanted: dict[str, Any]) -> None:
    assert list_changes(None, wanted) == []
    assert list_changes(as_returned(wanted), wanted) == []
    assert list_changes(as_returned(index_template("memory_monitoring", "", 3)), wanted) == []


@pytest.mark.parametrize(
    ("path", "value", "change"),
    [
        (("priority",), 300, "priority: 300 in place of 200"),
        (("composed_of",), ["ours"], "composed_of: ['ours'] in place of nothing"),
        (("template", "settings", "index", "codec"), "zstd", "template.settings.index.codec: zstd in place of nothing"),
        (("template", "mappings", "dynamic"), True, "template.mappings.dynamic: true in place of false"),
        (
            ("template", "mappings", "properties", "loss", "type"),
            "float",
            "template.mappings.properties.loss.type: float in place of double",
        ),
        (
            ("template", "aliases"),
            {"all": {"is_hidden": False}},
            "template.aliases.all.is_hidden: false in place of nothing",
        ),
    ],
)
def test_a_change_is_named_with_both_values(
    wanted: dict[str, Any], path: tuple[str, ...], value: object, change: str
) -> None:
    found = as_returned(wanted)
    inner = found
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = value
    assert list_changes(found, wanted) == [change]


def test_a_field_that_was_removed_is_a_change(wanted: dict[str, Any]) -> None:
    found = as_returned(wanted)
    del found["template"]["mappings"]["properties"]["loss"]
    assert list_changes(found, wanted) == ["template.mappings.properties.loss.type: nothing in place of double"]


def test_without_a_fingerprint_missing_fields_are_no_change_and_others_are(wanted: dict[str, Any]) -> None:
    found = as_returned(wanted)
    del found["_meta"], found["template"]["mappings"]["properties"]["loss"]
    assert list_changes(found, wanted) == []
    found["template"]["settings"]["index"]["number_of_replicas"] = "1"
    assert list_changes(found, wanted) == ["template.settings.index.number_of_replicas: 1 in place of 0"]


def test_a_change_to_what_is_wanted_now_is_none(wanted: dict[str, Any]) -> None:
    found = as_returned(wanted) | {"_meta": {"fingerprint": "of an older one"}}
    assert list_changes(found, wanted) == []


def test_a_template_is_found_by_its_whole_name() -> None:
    answer = {"index_templates": [{"name": "training_log-more", "index_template": {"priority": 1}}]}
    assert find_template(answer, "training_log") is None
    assert find_template(answer, "training_log-more") == {"priority": 1}
    assert find_template({"error": {}, "status": 404}, "training_log") is None
