import re
from pathlib import Path
from typing import Any

import orjson
import pytest
from logstash_pipeline_parser import Pipeline

from borgcore.eventlog.protocol import Chunk, Partition
from borgcore.events.topics import DEAD_LETTER, TOPICS
from borglogshipper.pipeline.record import RecordBatch, RecordReader

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


def logstash_id(event_id: str, place: str) -> str:
    """What the filter makes of an event_id; Ruby's and Python's expressions differ in \\z alone here."""
    pattern = re.search(r"if \[event_id\] =~ /(.*)/ {", TEXT)
    steps = re.findall(r'gsub => \["\[@metadata\]\[id\]", "(.*)", "(.*)"\]', TEXT)
    nil = re.search(r'or \[@metadata\]\[id\] == "(.*)" {', TEXT)
    assert pattern
    assert nil
    assert len(steps) == 2
    if not re.search(pattern[1].replace(r"\z", r"\Z"), event_id):
        return place
    found = event_id.lower()
    for old, new in steps:
        found = re.sub(old, new, found)
    return place if found == nil[1] else found


ID = "0193A1B2-c3d4-7e5f-8a9b-0c1d2e3f4a5b"
BARE = ID.replace("-", "")
NIL = "00000000-0000-0000-0000-000000000000"


@pytest.mark.parametrize(
    "event_id",
    [
        *(ID, ID.upper(), ID.lower(), BARE, f"{{{ID}}}", f"{{{BARE}}}", f"urn:uuid:{ID}", f"URN:UUID:{{{BARE}}}"),
        *(f"{{{ID}", f"{ID}}}", f"({ID})", ID[:-1], f"{ID}0", f"{ID}\n", f" {ID}", ID.replace("-", "", 1), "x", ""),
        *(NIL, NIL.replace("-", ""), f"urn:uuid:{NIL}", f"{{{NIL}}}"),
    ],
)
def test_an_event_id_gives_the_logshippers_id(event_id: str) -> None:
    chunk = Chunk(Partition("training_log", 0), [7], [1_795_341_600_000], [orjson.dumps({"event_id": event_id})])
    batch = RecordBatch()
    RecordReader(1_000, 20).read(chunk, batch)
    assert [logstash_id(event_id, "training_log-0-7")] == batch.documents.ids


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
