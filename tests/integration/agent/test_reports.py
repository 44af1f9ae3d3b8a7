import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs

from borgcore.run.keys import RunKeys
from borgcore.run.reports import AgentReport, LearnerReport, read_reports, write_report

LEARNER = LearnerReport(
    updates=9, updates_per_s=8.0, loss=0.5, mean_q=0.25, wait_share=0.01, limiter_share=0.02, batch_size=64
)


def report_of(agent: int, steps: int = 4, learner: LearnerReport | None = None) -> AgentReport:
    return AgentReport(
        agent=agent,
        pid=2,
        at_s=3.5,
        steps=steps,
        steps_per_s=5.0,
        episodes=2,
        epsilon=0.5,
        weights_version=7,
        recent=[(1.0, -1.0), (2.0, 1.0)],
        pause_share=0.1,
        learner=learner,
    )


async def test_reports_are_read_back_as_written_by_number(redis: Redis) -> None:
    reports = [report_of(1, learner=LEARNER), report_of(2), report_of(10)]
    for report in reversed(reports):
        await write_report(redis, "t", report)
    assert await read_reports(redis, "t") == reports


async def test_a_newer_report_replaces_the_older(redis: Redis) -> None:
    await write_report(redis, "t", report_of(1, steps=4))
    await write_report(redis, "t", report_of(1, steps=5))
    assert [report.steps for report in await read_reports(redis, "t")] == [5]


async def test_a_run_without_agents_has_no_reports(redis: Redis) -> None:
    assert await read_reports(redis, "t") == []


@pytest.mark.parametrize(
    "broken",
    [b"", b"\xff\xfe", b"{", b"[]", b'{"agent": 2}', b'{"agent": "two"}', b"[" * 60_000, b"0" * (64 << 10) + b"1"],
    ids=["empty", "no text", "cut off", "a list", "missing", "wrong type", "deep", "oversized"],
)
async def test_what_is_no_report_is_left_out_and_logged(redis: Redis, broken: bytes) -> None:
    await write_report(redis, "t", report_of(1))
    await redis.hset(RunKeys("t").reports, "2", broken)
    with capture_logs() as logs:
        assert await read_reports(redis, "t") == [report_of(1)]
    (line,) = logs
    assert (line["event"], line["agent"], line["size_bytes"]) == ("report_refused", "2", len(broken))


async def test_a_flood_of_reports_is_refused(redis: Redis) -> None:
    await redis.hset(RunKeys("t").reports, mapping={str(number): b"{}" for number in range(4097)})
    with capture_logs() as logs:
        assert await read_reports(redis, "t") == []
    assert [line["event"] for line in logs] == ["reports_refused"]
