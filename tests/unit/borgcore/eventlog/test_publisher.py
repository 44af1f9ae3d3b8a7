from collections.abc import Mapping, Sequence
from typing import Any

import anyio
import orjson
import pytest
import structlog
from structlog.testing import capture_logs

from borgcore.connection.retry import Backoff
from borgcore.errors import EventLogError, SettingsError
from borgcore.eventlog import publisher
from borgcore.eventlog.protocol import MakeTrimReport, Outgoing
from borgcore.eventlog.publisher import BATCH, Publisher, open_publisher
from borgcore.events.training import RunEnded
from borgcore.settings.sections import EventsSettings
from tests.limits import HANG_S
from tests.unit.borgcore.eventlog.senders import use_sender

SIZE = 20


class ListSender:
    """Keeps what is sent; it is away while ``away``, and hangs until ``held``."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []
        self.batches: list[int] = []
        self.topics: set[tuple[str, bytes]] = set()
        self.away = False
        self.failure: Exception = EventLogError("the log is away")
        self.counters: dict[str, int] = {}
        self.tried = anyio.Event()
        self.held: anyio.Event | None = None

    async def send(self, events: Sequence[Outgoing]) -> None:
        self.tried.set()
        if self.held is not None:
            await self.held.wait()
        await anyio.lowlevel.checkpoint()
        if self.away:
            raise self.failure
        self.batches.append(len(events))
        self.topics |= {(event.topic, event.key) for event in events}
        self.sent += [orjson.loads(event.value) for event in events]

    async def report_trimmed(self, make_report: MakeTrimReport) -> Mapping[str, int]:
        if self.away:
            raise EventLogError("the log is away")
        counters, self.counters = self.counters, {}
        self.sent += [orjson.loads(make_report(topic, entries).value) for topic, entries in counters.items()]
        return counters

    @property
    def numbers(self) -> list[int]:
        return [event["steps"] for event in self.sent if event["event"] == "run_ended"]

    @property
    def said(self) -> list[dict[str, Any]]:
        return [event for event in self.sent if event["event"] == "events_dropped"]


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """No waits between tries."""
    monkeypatch.setattr(publisher, "BACKOFF", Backoff(0.001, 0.001))


@pytest.fixture
def sender(monkeypatch: pytest.MonkeyPatch) -> ListSender:
    sender = ListSender()
    use_sender(monkeypatch, sender)
    return sender


def ended(number: int) -> RunEnded:
    return RunEnded(agent=1, pid=1, steps=number, episodes=0, duration_s=float("nan"), reason="asked")


def settings(size: int = SIZE) -> EventsSettings:
    return EventsSettings(buffer=size)


async def until_sent(events: Publisher) -> None:
    while events.pending or not events.connected:  # noqa: ASYNC110  # a publisher's state has no event
        await anyio.sleep(0.001)


async def until_lost(events: Publisher) -> None:
    while events.connected:  # noqa: ASYNC110  # a publisher's state has no event
        await anyio.sleep(0.001)


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (EventLogError("Kafka is away"), "Kafka is away"),
        (SettingsError("no certificate"), "no certificate"),
        (AssertionError("inside a library"), "AssertionError: inside a library"),
    ],
)
async def test_any_failure_of_the_log_is_logged_once_and_ends_no_service(
    sender: ListSender, failure: Exception, reason: str
) -> None:
    sender.away, sender.failure = True, failure
    with anyio.fail_after(HANG_S), capture_logs() as logs:
        async with open_publisher(settings(), "pong", "agent") as events:
            events.publish(ended(1))
            await until_lost(events)
            sender.away = False
            await until_sent(events)
    assert sender.numbers == [1]
    assert [said["event"] for said in logs] == ["event_log_lost", "event_log_regained"]
    assert logs[0]["reason"] == reason


async def test_events_are_sent_in_order_in_batches_with_their_envelope(sender: ListSender) -> None:
    with anyio.fail_after(HANG_S):
        async with open_publisher(settings(10 * BATCH), "pong", "agent") as events:
            events.agent = 3
            for number in range(2 * BATCH + 1):
                events.publish(ended(number))
            assert events.pending == 2 * BATCH + 1
            await until_sent(events)
            assert (events.published, events.dropped) == (2 * BATCH + 1, 0)
    assert sender.batches == [BATCH, BATCH, 1]
    assert sender.numbers == list(range(2 * BATCH + 1))
    assert sender.topics == {("training_log", b"pong/agent/3")}
    assert len({event["event_id"] for event in sender.sent}) == 2 * BATCH + 1
    first = sender.sent[0]
    assert (first["run"], first["schema"]) == ("pong", 1)
    assert "duration_s" not in first
    assert first["@timestamp"].endswith("Z")


async def test_the_last_events_are_sent_before_the_block_ends(sender: ListSender) -> None:
    with anyio.fail_after(HANG_S):
        async with open_publisher(settings(), "pong", "agent") as events:
            events.publish(ended(1))
    assert sender.numbers == [1]


async def test_the_last_events_are_sent_also_when_the_service_is_cancelled(sender: ListSender) -> None:
    with anyio.fail_after(HANG_S):
        async with anyio.create_task_group() as service:

            async def serve() -> None:
                async with open_publisher(settings(), "pong", "agent") as events:
                    events.publish(ended(1))
                    try:
                        await anyio.sleep_forever()
                    finally:
                        events.publish(ended(2))

            service.start_soon(serve)
            await anyio.wait_all_tasks_blocked()
            service.cancel_scope.cancel()
    assert sender.numbers == [1, 2]


async def test_a_log_that_is_away_at_the_end_is_given_up_and_what_is_lost_is_counted(
    sender: ListSender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publisher, "DRAIN_S", 0.05)
    sender.away = True
    with anyio.fail_after(HANG_S), structlog.testing.capture_logs() as logs:
        async with open_publisher(settings(), "pong", "agent") as events:
            for number in range(3):
                events.publish(ended(number))
            await until_lost(events)
    assert events.dropped == 3
    assert [(log["event"], log.get("events")) for log in logs] == [("event_log_lost", None), ("events_lost", 3)]


async def test_events_that_have_had_their_time_before_the_end_are_not_waited_for(
    sender: ListSender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publisher, "DRAIN_S", 2 * HANG_S)
    sender.away = True
    with anyio.fail_after(HANG_S):
        async with open_publisher(settings(), "pong", "agent") as events:
            events.publish(ended(1))
            events._newest_s -= publisher.DRAIN_S
    assert events.dropped == 1


@pytest.mark.parametrize("beyond", [0, 1, 30])
async def test_during_an_outage_the_newest_events_are_kept_and_the_dropped_ones_counted_and_logged_once(
    sender: ListSender, beyond: int
) -> None:
    sender.away = True
    with anyio.fail_after(HANG_S), structlog.testing.capture_logs() as logs:
        async with open_publisher(settings(), "pong", "monitor") as events:
            events.publish(ended(0))
            await until_lost(events)
            for number in range(1, SIZE + beyond):
                events.publish(ended(number))
            assert (events.pending, events.dropped) == (SIZE, beyond)
            sender.away = False
            await until_sent(events)
    assert len(sender.numbers) == SIZE
    assert sender.numbers == sorted(set(sender.numbers))
    assert sender.numbers[-1] == SIZE + beyond - 1
    assert [(said["dropped"], said["reason"], said["service"]) for said in sender.said] == (
        [(beyond, "buffer_full", "monitor")] if beyond else []
    )
    lines = ["event_log_lost", *(["events_dropping"] if beyond else []), "event_log_regained"]
    assert [log["event"] for log in logs] == lines
    assert logs[-1]["dropped"] == beyond


async def test_each_outage_is_logged(sender: ListSender) -> None:
    with anyio.fail_after(HANG_S), structlog.testing.capture_logs() as logs:
        async with open_publisher(settings(), "pong", "agent") as events:
            for dropped in (2, 5):
                sender.away = True
                for number in range(SIZE + dropped):
                    events.publish(ended(number))
                await until_lost(events)
                sender.away = False
                await until_sent(events)
    assert [said["dropped"] for said in sender.said] == [2, 5]
    assert [log["event"] for log in logs].count("event_log_regained") == 2


async def test_a_log_slower_than_its_publisher_costs_the_oldest_events_and_is_reported(sender: ListSender) -> None:
    sender.held = anyio.Event()
    with anyio.fail_after(HANG_S):
        async with open_publisher(settings(), "pong", "agent") as events:
            events.publish(ended(0))
            await sender.tried.wait()
            for number in range(1, SIZE + 4):
                events.publish(ended(number))
            assert (events.pending, events.dropped) == (SIZE, 4)
            sender.held.set()
            await until_sent(events)
    assert sender.numbers == [0, *range(5, SIZE + 4)]
    assert [said["dropped"] for said in sender.said] == [4]


async def test_trimmed_entries_are_reported_by_topic(sender: ListSender) -> None:
    sender.counters = {"training_log": 7, "dead_letter": 2}
    with anyio.fail_after(HANG_S), structlog.testing.capture_logs() as logs:
        async with open_publisher(settings(), "pong", "agent") as events:
            events.publish(ended(0))
            await until_sent(events)
    said = {said["dropped_topic"]: (said["dropped"], said["reason"]) for said in sender.said}
    assert said == {"training_log": (7, "stream_trimmed"), "dead_letter": (2, "stream_trimmed")}
    assert [(log["event"], log["entries"]) for log in logs] == [("stream_trimmed", 7), ("stream_trimmed", 2)]


async def test_the_last_events_are_sent_also_when_the_service_fails(sender: ListSender) -> None:
    async def fail() -> None:
        async with open_publisher(settings(), "pong", "agent") as events:
            events.publish(ended(1))
            raise ValueError("the service's own")

    with anyio.fail_after(HANG_S), pytest.raises(BaseExceptionGroup) as raised:
        await fail()
    assert raised.group_contains(ValueError, match="the service's own")
    assert sender.numbers == [1]
