"""Events that can never be sent: dropped, counted and named once, while all others are sent."""

from collections.abc import Mapping, Sequence
from typing import Any

import anyio
import orjson
import pytest
from structlog.testing import capture_logs

from borgcore.eventlog import publisher
from borgcore.eventlog.protocol import EventsRefusedError, MakeTrimReport, Outgoing, Refusal
from borgcore.eventlog.publisher import open_publisher
from borgcore.eventlog.refused import MOST_LOGGED
from borgcore.events.training import RunStarted
from borgcore.settings.sections import EventsSettings
from tests.limits import HANG_S
from tests.unit.borgcore.eventlog.senders import use_sender

LIMIT_BYTES = 700


class NarrowSender:
    """Refuses what is too large, or whatever is about a topic."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []
        self.closed_topics: set[str] = set()

    async def send(self, events: Sequence[Outgoing]) -> None:
        await anyio.lowlevel.checkpoint()
        refusals = {}
        for row, event in enumerate(events):
            if len(event.value) > LIMIT_BYTES or event.topic in self.closed_topics:
                refusals[row] = Refusal(f"{event.topic} refused it", LIMIT_BYTES)
            else:
                self.sent.append(orjson.loads(event.value))
        if refusals:
            raise EventsRefusedError(refusals)

    async def report_trimmed(self, make_report: MakeTrimReport) -> Mapping[str, int]:  # noqa: ARG002  # its signature
        return {}


@pytest.fixture
def sender(monkeypatch: pytest.MonkeyPatch) -> NarrowSender:
    sender = NarrowSender()
    use_sender(monkeypatch, sender)
    return sender


def started(pid: int, **settings: Any) -> RunStarted:
    names = dict.fromkeys(("game", "preset", "learn", "device", "version"), "x")
    return RunStarted(agent=1, pid=pid, settings=settings, **names)


async def publish(*events: RunStarted) -> tuple[publisher.Publisher, list[Any]]:
    with anyio.fail_after(HANG_S), capture_logs() as logs:
        async with open_publisher(EventsSettings(), "pong", "agent") as opened:
            for event in events:
                opened.publish(event)
            while opened.pending:  # noqa: ASYNC110  # a publisher's state has no event
                await anyio.sleep(0.001)
    return opened, [dict(line) for line in logs]


async def test_refused_events_are_dropped_counted_and_named_and_the_others_are_sent(sender: NarrowSender) -> None:
    opened, logs = await publish(*(started(pid, text="x" * (1_000 if pid in {2, 5} else 1)) for pid in range(7)))
    assert [event["pid"] for event in sender.sent if event["event"] == "run_started"] == [0, 1, 3, 4, 6]
    assert (opened.published, opened.dropped, opened.connected) == (6, 2, True)
    assert [(line["event"], line["name"], line["limit_bytes"]) for line in logs] == [
        ("event_refused", "run_started", LIMIT_BYTES)
    ] * 2
    assert all(line["size_bytes"] > 1_000 for line in logs)
    [report] = [event for event in sender.sent if event["event"] == "events_dropped"]
    assert (report["dropped"], report["reason"], report["dropped_event"]) == (2, "refused", "run_started")
    assert report["first_refused"].startswith(f"run_started {logs[0]['event_id']} of {logs[0]['size_bytes']} bytes: ")


async def test_of_many_refused_at_once_the_first_are_named_and_all_are_counted(sender: NarrowSender) -> None:
    opened, logs = await publish(*(started(pid, text="x" * 1_000) for pid in range(MOST_LOGGED + 5)))
    assert opened.dropped == MOST_LOGGED + 5
    assert [line["event"] for line in logs] == ["event_refused"] * MOST_LOGGED + ["events_refused"]
    assert logs[-1]["events"] == MOST_LOGGED + 5
    [report] = [event for event in sender.sent if event["event"] == "events_dropped"]
    assert report["dropped"] == MOST_LOGGED + 5


async def test_a_topic_that_refuses_everything_is_no_endless_loop(sender: NarrowSender) -> None:
    sender.closed_topics = {"training_log", "memory_monitoring"}
    opened, logs = await publish(started(1), started(2))
    assert (opened.published, opened.dropped) == (0, 3)
    assert [line["name"] for line in logs] == ["run_started", "run_started", "events_dropped"]


@pytest.mark.parametrize("value", [object(), {1, object()}, b"\xff", {("a", object()): 1}], ids=str)
async def test_an_event_that_cannot_be_encoded_is_dropped_counted_and_named(
    sender: NarrowSender, value: object
) -> None:
    opened, logs = await publish(started(1), started(2, bad=value), started(3))
    assert [event["pid"] for event in sender.sent if event["event"] == "run_started"] == [1, 3]
    assert (opened.published, opened.dropped) == (3, 1)
    assert [(line["event"], line["name"], line["topic"]) for line in logs] == [
        ("event_refused", "run_started", "training_log")
    ]
    assert "it cannot be encoded as JSON: " in logs[0]["reason"]


async def test_an_event_nested_without_end_is_dropped(sender: NarrowSender) -> None:
    endless: dict[str, Any] = {}
    endless["inner"] = endless
    deep: dict[str, Any] = {}
    for _ in range(2_000):
        deep = {"inner": deep}
    opened, _ = await publish(started(1, endless=endless), started(2, deep=deep), started(3))
    assert [event["pid"] for event in sender.sent if event["event"] == "run_started"] == [3]
    assert opened.dropped == 2
