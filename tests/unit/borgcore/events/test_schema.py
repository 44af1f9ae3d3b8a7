from datetime import datetime
from typing import get_args

import orjson
import pytest
from pydantic import ValidationError

from borgcore.eventlog.publisher import encode_event
from borgcore.events.monitoring import EventsDropped
from borgcore.events.reference import ENVELOPE, list_events, list_fields
from borgcore.events.schema import SCHEMA_VERSION, Event
from borgcore.events.topics import TOPICS, Topic
from borgcore.events.training import AgentReported, LearnerReported, RunStarted

EVENTS = [event for topic in TOPICS for event in list_events(topic)]
REPORT = {
    "agent": 1,
    "updates": 2,
    "updates_per_s": 3.5,
    "samples_per_s": 4.5,
    "batch_size": 64,
    "loss": 0.25,
    "mean_q": -1.5,
    "wait_share": 0.0,
    "limiter_share": 0.0,
}


def test_topics_are_those_of_the_type() -> None:
    assert get_args(Topic) == TOPICS == ("training_log", "memory_monitoring")


def test_no_two_events_have_one_name() -> None:
    names = [event.name for event in EVENTS]
    assert len(set(names)) == len(names) > 6


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.name)
def test_an_event_says_what_it_is_and_no_field_of_it_hides_one_of_the_envelope(event: type[Event]) -> None:
    assert (event.__doc__ or "").strip()
    assert event.__doc__ != Event.__doc__
    assert not {field.name for field in list_fields(event)} & {field.name for field in ENVELOPE}


@pytest.mark.parametrize("event", [AgentReported, LearnerReported], ids=lambda event: event.name)
def test_every_field_of_a_report_but_the_agents_number_is_a_figure_whose_unit_fits_its_name(event: type[Event]) -> None:
    figures = event.figures()
    assert set(event.model_fields) - set(figures) == {"agent"}
    for name, figure in figures.items():
        assert (figure.kind == "rate") == name.endswith("_per_s") == figure.unit.endswith("/s"), name
        assert (figure.kind == "share") == name.endswith("_share"), name
        assert (figure.unit == "s") == (name.endswith("_s") and not name.endswith("_per_s")), name
        assert figure.unit, name


def test_an_event_is_encoded_with_its_envelope_first_and_without_what_is_none() -> None:
    encoded = encode_event(EventsDropped(service="agent", dropped=3, reason="buffer_full"), "pong")
    found = orjson.loads(encoded)
    assert list(found) == ["@timestamp", "event_id", "event", "schema", "run", "service", "dropped", "reason"]
    assert [field.name for field in ENVELOPE] == list(found)[:5]
    assert (found["event"], found["run"]) == ("events_dropped", "pong")
    assert found["schema"] == SCHEMA_VERSION
    assert datetime.fromisoformat(found["@timestamp"]).utcoffset() is not None
    assert found["@timestamp"].endswith("Z")
    assert found["event_id"][14] == "7"


def test_a_number_that_json_has_no_word_for_is_left_out() -> None:
    report = LearnerReported.model_validate(REPORT | {"loss": float("nan"), "mean_q": float("inf")})
    assert not {"loss", "mean_q"} & orjson.loads(encode_event(report, "pong")).keys()


def test_what_json_cannot_hold_is_encoded_as_near_as_it_can() -> None:
    settings = {"seed": 2**70, "low": -(2**64), "checkpoint_dir": "runs/\udcff", "deep": [{"n": 2**64}], "fine": 2**63}
    fields = {"agent": 1, "pid": 1, "game": "pong", "preset": "small", "learn": "elected", "device": "cpu"}
    found = orjson.loads(encode_event(RunStarted(**fields, version="1", settings=settings), "pong"))
    assert found["settings"] == {
        "seed": str(2**70),
        "low": str(-(2**64)),
        "checkpoint_dir": "runs/?",
        "deep": [{"n": str(2**64)}],
        "fine": 2**63,
    }


def test_an_event_takes_no_field_that_is_not_listed() -> None:
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        LearnerReported.model_validate(REPORT | {"epsilon": 0.1})


def test_an_event_does_not_change_once_it_is_made() -> None:
    report = LearnerReported.model_validate(REPORT)
    with pytest.raises(ValidationError, match="frozen"):
        report.loss = 0.5  # type: ignore[misc]  # that is the promise


def test_an_absent_mean_return_is_left_out() -> None:
    values = {name: 1 for name, info in AgentReported.model_fields.items() if info.is_required()}
    found = orjson.loads(encode_event(AgentReported.model_validate(values | {"return_20": None}), "pong"))
    assert "return_20" not in found
