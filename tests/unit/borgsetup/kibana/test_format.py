import re
from typing import ClassVar

import pytest

from borgcore.events.monitoring import MemorySampled, ShipperReported
from borgcore.events.reference import list_events, list_fields
from borgcore.events.schema import Event
from borgcore.events.topics import TOPICS, Topic
from borgcore.events.training import AgentReported, EpisodeEnded, LearnerReported
from borgsetup.kibana.format import NumberFormat, axis_title, number_format

from .saved import tables

TYPICAL: dict[str, tuple[float, ...]] = {
    "loss": (0.0026, 0.029),
    "mean_q": (-0.71, 0.034),
    "epsilon": (0.002, 1.0),
    "updates_per_s": (2.5, 55.2),
    "steps_per_s": (21.0, 2400.0),
    "weights_age_s": (1.1, 35.0),
    "wait_share": (0.011, 0.97),
    "limiter_share": (0.011, 0.97),
    "pause_share": (0.011, 0.97),
    "return_20": (-21.0, 18.45),
    "episode_return": (-21.0, 18.0),
    "replay_samples_per_insert": (0.35, 8.0),
    "replay_bytes_per_transition": (545.6, 8123.0),
    "replay_bytes": (1.4e6, 5.7e8),
    "redis_memory_used_bytes": (2.1e6, 3.0e9),
    "redis_instantaneous_ops_per_sec": (12.0, 4200.0),
    "fcall_mean_us": (1.9, 890.0),
}
"""A small and a large value of each field that is drawn as a mean: of the loss as runs reported them, of the
others as is plausible for Pong and Catch."""


def show(value: float, decimals: int, id_: str) -> str:
    """The digits as Kibana shows them; its bytes are in the largest unit that leaves at least 1."""
    if id_ == "bytes":
        while abs(value) >= 1024:
            value /= 1024
    return f"{value * (100 if id_ == 'percent' else 1):.{decimals}f}"


def test_every_number_on_the_dashboard_shows_at_least_two_digits_of_its_smallest_value() -> None:
    drawn = set()
    for table in tables():
        for column in table.columns.values():
            field, shown = column["sourceField"], column["params"].get("format")
            if column["isBucketed"] or column["operationType"] != "average":
                continue
            drawn.add(field)
            for value in TYPICAL[field]:
                text = show(value, shown["params"]["decimals"], shown["id"])
                assert len(text.lstrip("-0.").replace(".", "")) >= 2, f"{field}: {value} is shown as {text}"
                assert len(text.replace(".", "")) <= 6, f"{field}: {value} is shown as {text}"
    assert drawn <= set(TYPICAL)


def test_numbers_that_only_count_have_no_decimals() -> None:
    for table in tables():
        for column in table.columns.values():
            whole = column["operationType"] in {"count", "sum"} or column["sourceField"] in {"updates", "lag"}
            if whole and not column["isBucketed"]:
                assert column["params"]["format"] == {"id": "number", "params": {"decimals": 0}}


@pytest.mark.parametrize(
    ("event", "field", "expected"),
    [
        (LearnerReported, "loss", NumberFormat("number", 4)),
        (LearnerReported, "mean_q", NumberFormat("number", 3)),
        (LearnerReported, "wait_share", NumberFormat("percent", 1)),
        (LearnerReported, "updates", NumberFormat("number", 0)),
        (AgentReported, "pause_share", NumberFormat("percent", 1)),
        (AgentReported, "weights_age_s", NumberFormat("number", 1)),
        (EpisodeEnded, "episode_return", NumberFormat("number", 2)),
        (MemorySampled, "redis_mem_fragmentation_ratio", NumberFormat("number", 2)),
        (MemorySampled, "redis_latest_fork_seconds", NumberFormat("number", 1)),
        (MemorySampled, "replay_inserts_per_s", NumberFormat("number", 1)),
        (MemorySampled, "replay_bytes_per_transition", NumberFormat("bytes", 1)),
        (ShipperReported, "lag", NumberFormat("number", 0)),
        (ShipperReported, "@timestamp", None),
        (ShipperReported, None, NumberFormat("number", 0)),
    ],
)
def test_the_format_follows_from_the_field(event: type[Event], field: str, expected: NumberFormat | None) -> None:
    assert number_format(event, field) == expected


def test_a_mean_of_integers_has_a_decimal() -> None:
    assert number_format(ShipperReported, "lag", averaged=True) == NumberFormat("number", 1)


@pytest.mark.parametrize("topic", TOPICS)
def test_every_figure_has_the_decimals_of_the_terminal(topic: Topic) -> None:
    for event in list_events(topic):
        for field in list_fields(event):
            if field.figure is None or not field.figure.template:
                continue
            shown = number_format(event, field.name)
            assert shown is not None
            rendered = re.search(r"0\.?(0*)", field.figure.render(0))
            assert rendered
            assert shown.decimals == len(rendered[1]), field.name
            assert (shown.id == "percent") is ("%" in field.figure.render(0))


class Unusual(Event):
    topic: ClassVar[Topic] = "training_log"
    cold_start_s: float


@pytest.mark.parametrize(
    ("event", "field", "title"),
    [
        (AgentReported, "weights_age_s", "Seconds"),
        (AgentReported, "pause_share", "Share of the time"),
        (AgentReported, "steps_per_s", "Agent steps per second"),
        (MemorySampled, "replay_bytes", "Bytes"),
        (MemorySampled, "fcall_mean_us", "Microseconds"),
        (MemorySampled, "replay_bytes_per_transition", "Label"),
        (Unusual, "cold_start_s", "Seconds"),
        (LearnerReported, "loss", "Label"),
        (EpisodeEnded, None, "Label"),
    ],
)
def test_the_title_of_an_axis_is_the_unit_in_words_or_the_label(
    event: type[Event], field: str | None, title: str
) -> None:
    assert axis_title(event, field, "Label") == title
