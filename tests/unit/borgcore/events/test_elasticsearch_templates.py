from typing import Any, ClassVar, cast

import pytest

from borgcore.events.elasticsearch_templates import index_template
from borgcore.events.reference import ENVELOPE, list_events, list_fields
from borgcore.events.schema import SCHEMA_VERSION, Event
from borgcore.events.topics import TOPICS, Topic


def properties(topic: Topic) -> dict[str, Any]:
    found: dict[str, Any] = index_template(topic, "", 0)["template"]["mappings"]["properties"]
    return found


@pytest.mark.parametrize("topic", TOPICS)
def test_every_field_of_every_event_and_of_the_envelope_has_a_mapping_and_no_other_has(topic: Topic) -> None:
    expected = {field.name for event in list_events(topic) for field in list_fields(event)}
    assert set(properties(topic)) == expected | {field.name for field in ENVELOPE}


def test_types_of_json_become_types_of_elasticsearch() -> None:
    found = properties("training_log")
    assert found["@timestamp"] == {"type": "date"}
    assert found["event_id"] == found["event"] == found["run"] == {"type": "keyword", "ignore_above": 1024}
    assert found["schema"] == found["agent"] == found["steps"] == {"type": "long"}
    assert found["loss"] == found["return_20"] == {"type": "double"}
    assert found["truncated"] == {"type": "boolean"}
    assert found["settings"] == {"type": "object", "enabled": False}


def test_a_template_is_for_its_topic_with_the_prefix_before_it() -> None:
    template = index_template("training_log", "team-a-", 2)
    assert template["index_patterns"] == ["team-a-training_log-*"]
    assert template["priority"] == 200
    assert template["_meta"]["schema"] == template["version"] == SCHEMA_VERSION
    assert template["template"]["mappings"]["dynamic"] is False
    index = template["template"]["settings"]["index"]
    assert index == {"number_of_shards": 1, "number_of_replicas": 2, "mapping": {"coerce": False}}


def test_one_field_name_of_two_types_in_a_topic_is_an_error_that_names_both() -> None:
    class Counted(Event):
        name: ClassVar[str] = "counted"
        topic: ClassVar[Topic] = cast("Topic", "at_odds")
        amount: int

    class Measured(Event):
        name: ClassVar[str] = "measured"
        topic: ClassVar[Topic] = cast("Topic", "at_odds")
        amount: float

    assert Counted.topic == Measured.topic
    with pytest.raises(
        TypeError, match=r"^at_odds has a field amount of type integer and, in measured, of type number"
    ):
        index_template(Counted.topic, "", 0)
