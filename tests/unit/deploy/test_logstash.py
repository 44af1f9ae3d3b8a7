import re
from pathlib import Path
from typing import Any

import pytest
from logstash_pipeline_parser import Pipeline

from borgcore.events.topics import DEAD_LETTER, TOPICS

TEXT = (Path(__file__).parents[3] / "deploy" / "logstash" / "logstash.conf").read_text()


@pytest.fixture
def sections() -> dict[str, Any]:
    return {str(section[0]): section[1] for section in Pipeline(TEXT).parse()}


def test_its_syntax_is_valid(sections: dict[str, Any]) -> None:
    assert list(sections) == ["input", "filter", "output"]


def test_a_broken_pipeline_is_not_accepted() -> None:
    with pytest.raises(Exception, match="Expected"):
        Pipeline(TEXT.replace("=>", "=", 1)).parse()


def plugin(name: str) -> str:
    """Return the text of the last plugin with this name."""
    found = re.findall(rf"^ +{name} {{\n(.*?)^ +}}$", TEXT, re.MULTILINE | re.DOTALL)
    assert found
    return str(found[-1])


def test_it_reads_the_topics_that_the_logshipper_reads() -> None:
    found = re.search(r"topics => \[(.*)\]", TEXT)
    assert found
    assert tuple(re.findall(r'"(\w+)"', found[1])) == TOPICS


def test_it_creates_no_topic_and_commits_only_what_is_in_its_queue() -> None:
    assert "auto_create_topics => false" in TEXT
    assert 'enable_auto_commit => "false"' in TEXT
    assert "username='logstash'" in TEXT


def test_a_document_that_is_there_already_is_no_warning() -> None:
    assert 'silence_errors_in_log => ["version_conflict_engine_exception"]' in plugin("elasticsearch")


def test_documents_are_created_under_the_logshippers_ids_and_indices() -> None:
    output = plugin("elasticsearch")
    assert 'action => "create"' in output
    assert 'document_id => "%{[@metadata][id]}"' in output
    assert 'index => "%{[@metadata][kafka][topic]}-%{+YYYY.MM}"' in output
    assert '"[@metadata][id]" => "%{event_id}"' in TEXT
    place = "%{[@metadata][kafka][topic]}-%{[@metadata][kafka][partition]}-%{[@metadata][kafka][offset]}"
    assert f'"[@metadata][id]" => "{place}"' in TEXT
    assert 'decorate_events => "basic"' in TEXT


def test_nothing_but_its_own_mark_is_taken_from_a_document_and_nothing_added() -> None:
    assert re.findall(r"remove_field => (.*) }", TEXT) == ['["@version"]']
    assert all(name.startswith("[@metadata]") for name in re.findall(r'add_field => { "([^"]+)"', TEXT))
    assert 'ecs_compatibility => "disabled"' in TEXT


def test_records_that_are_not_json_go_to_the_dead_letters() -> None:
    assert f'topic_id => "{DEAD_LETTER}"' in TEXT
    assert '"_jsonparsefailure" in [tags]' in TEXT


def test_it_contains_no_secret() -> None:
    assert re.findall(r"password='([^']*)'", TEXT) == ["${KAFKA_PASSWORD}"] * 2
    assert re.findall(r'api_key => "([^"]*)"', TEXT) == ["${LOGSTASH_API_KEY}"]
