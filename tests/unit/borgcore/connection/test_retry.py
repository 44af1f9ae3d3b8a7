"""The retry policy, with a clock that only its own waits move."""

import math
from collections.abc import Callable

import anyio
import pytest
from structlog.testing import capture_logs

from borgcore.connection import retry
from borgcore.connection.retry import BACKOFF, Backoff, Outage, retry_through_outage
from tests.limits import HANG_S

SECOND = Backoff(2.0, 2.0)  # waits of 1 to 2 s


class AwayError(Exception):
    """The outage of these tests."""


class RefusedError(Exception):
    """No outage."""


def is_away(error: Exception) -> bool:
    return isinstance(error, AwayError)


class Clock:
    """The policy's time; a wait moves it and takes none."""

    def __init__(self) -> None:
        self.now_s = 1_000.0
        self.waits: list[float] = []

    def monotonic(self) -> float:
        return self.now_s

    async def sleep(self, delay_s: float) -> None:
        self.waits.append(delay_s)
        self.now_s += delay_s
        await anyio.lowlevel.checkpoint()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(retry, "time", clock)  # the modules as the policy sees them; the event loop keeps its own
    monkeypatch.setattr(retry, "anyio", clock)
    return clock


class Server:
    """Fails the first calls with the given errors, each after ``takes_s``; then answers."""

    def __init__(self, clock: Clock, *errors: Exception, takes_s: float = 0.0) -> None:
        self.calls = 0
        self._clock = clock
        self._errors = list(errors)
        self._takes_s = takes_s

    async def call(self) -> str:
        self.calls += 1
        self._clock.now_s += self._takes_s
        if self._errors:
            raise self._errors.pop(0)
        return "answer"


def away(count: int) -> list[Exception]:
    return [AwayError(f"away {number}") for number in range(count)]


def at(jitter: float) -> Callable[[float, float], float]:
    return lambda low, high: low + jitter * (high - low)


def test_waits_double_up_to_their_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("borgcore.connection.retry.random.uniform", at(1.0))
    assert [Backoff(0.25, 3.0).wait_s(failures) for failures in range(1, 7)] == [0.25, 0.5, 1.0, 2.0, 3.0, 3.0]
    assert BACKOFF.wait_s(1) == 0.05
    assert BACKOFF.wait_s(10_000) == 1.0


def test_jitter_leaves_at_least_half_of_a_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("borgcore.connection.retry.random.uniform", at(0.0))
    assert [Backoff(0.25, 3.0).wait_s(failures) for failures in range(1, 7)] == [0.125, 0.25, 0.5, 1.0, 1.5, 1.5]


def test_waits_are_spread_between_their_bounds() -> None:
    waits = [BACKOFF.wait_s(20) for _ in range(500)]
    assert 0.5 <= min(waits) < 0.6
    assert 0.9 < max(waits) <= 1.0


@pytest.mark.parametrize("failures", [1, 2, 50])
def test_an_outage_is_one_event_at_each_end_however_many_tries_fail(clock: Clock, failures: int) -> None:
    outage = Outage("redis_lost", "redis_regained", address="host:1")
    with capture_logs() as logs:
        for error in away(failures):
            outage.record(error, kept=5)
            clock.now_s += 1.5
        assert (outage.failures, outage.reason) == (failures, f"away {failures - 1}")
        assert outage.duration_s == failures * 1.5
        assert outage.end(dropped=3) == failures * 1.5
        assert outage.end(dropped=3) == 0.0
    assert logs == [
        {"event": "redis_lost", "log_level": "warning", "address": "host:1", "reason": "away 0", "kept": 5},
        {
            "event": "redis_regained",
            "log_level": "info",
            "address": "host:1",
            "outage_s": failures * 1.5,
            "dropped": 3,
        },
    ]
    assert (outage.failures, outage.reason, outage.error, outage.duration_s) == (0, None, None, 0.0)


def test_the_next_outage_is_logged_again(clock: Clock) -> None:
    outage = Outage("redis_lost", "redis_regained")
    with capture_logs() as logs:
        for seconds in (2.0, 5.0):
            outage.record(AwayError())
            clock.now_s += seconds
            outage.end()
    assert [line.get("outage_s") for line in logs] == [None, 2.0, None, 5.0]


def test_an_outage_may_have_begun_before_it_was_noticed_and_be_described_by_its_owner(clock: Clock) -> None:
    outage = Outage("event_log_lost", "event_log_regained")
    with capture_logs() as logs:
        outage.record(AwayError("x"), began_s=clock.now_s - 3.0, reason="silent")
        outage.record(AwayError("y"), began_s=clock.now_s)
        assert outage.end() == 3.0
    assert logs[0]["reason"] == "silent"


def test_without_event_names_an_outage_is_only_counted(clock: Clock) -> None:
    outage = Outage()
    with capture_logs() as logs:
        outage.record(AwayError("away"))
        clock.now_s += 1.0
        assert (outage.failures, outage.reason, outage.duration_s) == (1, "away", 1.0)
        outage.end()
    assert logs == []


async def test_a_call_is_repeated_until_it_succeeds_with_growing_waits(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("borgcore.connection.retry.random.uniform", at(1.0))
    server, outage = Server(clock, *away(7)), Outage("redis_lost", "redis_regained")
    with anyio.fail_after(HANG_S), capture_logs() as logs:
        assert await retry_through_outage(server.call, is_outage=is_away, outage=outage) == "answer"
    assert server.calls == 8
    assert clock.waits == [0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0]
    assert [line["event"] for line in logs] == ["redis_lost", "redis_regained"]
    assert logs[-1]["outage_s"] == pytest.approx(sum(clock.waits), abs=0.001)


async def test_a_first_success_waits_for_nothing_and_logs_nothing(clock: Clock) -> None:
    server, outage = Server(clock), Outage("redis_lost", "redis_regained")
    with capture_logs() as logs:
        assert await retry_through_outage(server.call, is_outage=is_away, outage=outage) == "answer"
    assert (server.calls, clock.waits, logs) == (1, [], [])


@pytest.mark.parametrize("give_up_after_s", [0.5, 3.5, 10.0])
async def test_the_newest_error_is_raised_when_the_next_try_would_come_too_late(
    clock: Clock, give_up_after_s: float
) -> None:
    server, outage, began_s = Server(clock, *away(1_000)), Outage("redis_lost", "redis_regained"), clock.now_s
    with anyio.fail_after(HANG_S), capture_logs() as logs, pytest.raises(AwayError) as raised:
        await retry_through_outage(
            server.call, is_outage=is_away, backoff=SECOND, give_up_after_s=give_up_after_s, outage=outage
        )
    assert str(raised.value) == f"away {server.calls - 1}"
    assert give_up_after_s - SECOND.limit_s < clock.now_s - began_s <= give_up_after_s
    assert [line["event"] for line in logs] == ["redis_lost"], "the outage goes on"
    assert outage.failures == server.calls


async def test_the_time_that_calls_take_counts_as_well(clock: Clock) -> None:
    server = Server(clock, *away(1_000), takes_s=4.0)
    with anyio.fail_after(HANG_S), pytest.raises(AwayError):
        await retry_through_outage(server.call, is_outage=is_away, backoff=SECOND, give_up_after_s=7.0)
    assert server.calls == 2


async def test_a_failed_first_try_counts_and_time_begins_with_it(clock: Clock) -> None:
    server, outage = Server(clock, *away(1)), Outage("redis_lost", "redis_regained")
    failed = AwayError("first")
    with anyio.fail_after(HANG_S), capture_logs() as logs:
        answer = await retry_through_outage(
            server.call, is_outage=is_away, backoff=SECOND, give_up_after_s=4.0, outage=outage, failed=failed
        )
    assert answer == "answer"
    assert (server.calls, len(clock.waits)) == (2, 2)
    assert logs[0]["reason"] == "first"


@pytest.mark.parametrize("failed", [AwayError("first"), RefusedError("first")])
async def test_a_failed_first_try_is_raised_if_there_is_no_time_or_it_is_no_outage(
    clock: Clock, failed: Exception
) -> None:
    server = Server(clock)
    with pytest.raises(type(failed)) as raised:
        await retry_through_outage(server.call, is_outage=is_away, give_up_after_s=0.001, failed=failed)
    assert raised.value is failed
    assert (server.calls, clock.waits) == (0, [])


@pytest.mark.parametrize("error", [RefusedError("no"), ValueError("a bug"), TimeoutError()])
async def test_an_error_that_is_no_outage_passes_through_at_once(clock: Clock, error: Exception) -> None:
    server, outage = Server(clock, error), Outage("redis_lost", "redis_regained")
    with capture_logs() as logs, pytest.raises(type(error)) as raised:
        await retry_through_outage(server.call, is_outage=is_away, outage=outage)
    assert raised.value is error
    assert (server.calls, clock.waits, logs, outage.failures) == (1, [], [], 0)


async def test_a_refusal_during_an_outage_is_not_retried(clock: Clock) -> None:
    server = Server(clock, *away(3), RefusedError("the server came back and refuses us"))
    with anyio.fail_after(HANG_S), pytest.raises(RefusedError):
        await retry_through_outage(server.call, is_outage=is_away)
    assert (server.calls, len(clock.waits)) == (4, 3)


async def test_a_cancelled_call_is_not_retried_and_ends_no_outage() -> None:
    calls = 0
    outage = Outage("redis_lost", "redis_regained")

    async def hang() -> None:
        nonlocal calls
        calls += 1
        await anyio.sleep_forever()

    with anyio.fail_after(HANG_S), capture_logs() as logs:
        async with anyio.create_task_group() as group:

            async def call() -> None:
                await retry_through_outage(hang, is_outage=lambda _: True, outage=outage, give_up_after_s=math.inf)

            group.start_soon(call)
            await anyio.wait_all_tasks_blocked()
            group.cancel_scope.cancel()
    assert (calls, outage.failures, logs) == (1, 0, [])


async def test_a_cancelled_wait_ends_the_retries() -> None:
    outage, tried = Outage(), anyio.Event()

    async def fail() -> None:
        tried.set()
        raise AwayError

    async def call() -> None:
        await retry_through_outage(fail, is_outage=is_away, backoff=Backoff(1_000.0, 1_000.0), outage=outage)

    with anyio.fail_after(HANG_S):
        async with anyio.create_task_group() as group:
            group.start_soon(call)
            await tried.wait()
            group.cancel_scope.cancel()
    assert outage.failures == 1
