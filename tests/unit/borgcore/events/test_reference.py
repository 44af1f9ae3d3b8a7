import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar, Literal, cast

import pytest

from borgcore.events.monitoring import EventsDropped
from borgcore.events.reference import ENVELOPE, Field, list_events, list_fields, write_reference
from borgcore.events.schema import Event
from borgcore.events.topics import TOPICS, Topic
from borgcore.events.training import EpisodeEnded, RunStarted
from tests.limits import HANG_S

DOCUMENT = Path(__file__).parents[4] / "docs/events.md"


def test_the_committed_reference_is_the_one_that_the_classes_make() -> None:
    assert DOCUMENT.read_text() == write_reference()


def test_the_module_prints_the_reference_without_a_warning() -> None:
    command = [sys.executable, "-W", "error::RuntimeWarning", "-m", "borgcore.events.reference"]
    printed = subprocess.run(command, capture_output=True, text=True, check=False, timeout=HANG_S)
    assert (printed.returncode, printed.stderr) == (0, "")
    assert printed.stdout == write_reference()


def test_the_reference_has_every_event_and_every_field_under_its_topic() -> None:
    sections = dict(zip(TOPICS, write_reference().split("\n## ")[-len(TOPICS) :], strict=True))
    for topic, section in sections.items():
        assert section.startswith(topic)
        for event in list_events(topic):
            part = section.split(f"### {event.name}\n")[1].split("\n### ")[0]
            rows = [line for line in part.splitlines() if line.startswith("| `")]
            assert [row.split("`")[1] for row in rows] == list(event.model_fields)
    assert all(f"| `{field.name}` |" in write_reference() for field in ENVELOPE)


def test_a_field_has_its_json_type_its_description_and_whether_it_may_be_absent() -> None:
    fields = {field.name: field for field in list_fields(EventsDropped)}
    assert fields["dropped"] == Field("dropped", "integer", "Events lost.")
    assert fields["outage_s"] == Field(
        "outage_s", "number", "How long the log was unavailable, seconds.", optional=True
    )
    assert {field.name: field.json_type for field in list_fields(RunStarted)}["settings"] == "object"
    assert {field.name: field.json_type for field in list_fields(EpisodeEnded)}["truncated"] == "boolean"


def test_a_field_of_chosen_words_is_a_string_and_one_of_a_list_is_refused() -> None:
    class Chosen(Event):
        name: ClassVar[str] = "chosen"
        topic: ClassVar[Topic] = cast("Topic", "of_this_test")
        state: Literal["onset", "clear"] | None

    class Listed(Event):
        name: ClassVar[str] = "listed"
        topic: ClassVar[Topic] = cast("Topic", "of_this_test")
        states: list[str]
        both: int | str

    assert list_fields(Chosen) == [Field("state", "string", "", optional=True)]
    with pytest.raises(TypeError, match=r"^Listed.states is of type list\[str\]; expected bool, int, float, str"):
        list_fields(Listed)


def test_events_are_listed_by_topic_in_the_order_of_their_classes() -> None:
    names = [event.name for event in list_events("training_log")]
    assert names[:3] == ["run_started", "run_ended", "episode_ended"]
    assert "events_dropped" not in names
    assert "events_dropped" in [event.name for event in list_events("memory_monitoring")]


def test_a_field_that_may_be_absent_is_marked_as_optional() -> None:
    rows: dict[str, Any] = {line.split("`")[1]: line for line in write_reference().splitlines() if line[:3] == "| `"}
    assert rows["outage_s"].endswith("| How long the log was unavailable, seconds. Optional. |")
    assert rows["return_20"].endswith("| Mean return of the newest 20 episodes; absent before 20 have ended. |")
