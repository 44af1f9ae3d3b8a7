import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs

from borgcore.run.keys import RunKeys
from borgcore.run.reports import read_reports, write_report
from tests.reports import LEARNER, report_of

RECENT = ((1.0, -1.0), (2.0, 1.0))
NEWER = report_of(agent=2).model_dump_json().replace('"pid"', '"a_new_figure":1.5,"pid"').encode()
OLDER = report_of(agent=2).model_dump_json(exclude={"stale"}).encode()


async def test_reports_are_read_back_as_written_by_number(redis: Redis) -> None:
    reports = [report_of(agent=1, recent=RECENT, learner=LEARNER), report_of(agent=2), report_of(agent=10)]
    for report in reversed(reports):
        await write_report(redis, "t", report)
    assert await read_reports(redis, "t") == reports


async def test_a_newer_report_replaces_the_older(redis: Redis) -> None:
    await write_report(redis, "t", report_of(steps=4))
    await write_report(redis, "t", report_of(steps=5))
    assert [report.steps for report in await read_reports(redis, "t")] == [5]


async def test_a_run_without_agents_has_no_reports(redis: Redis) -> None:
    assert await read_reports(redis, "t") == []


@pytest.mark.parametrize(
    "broken",
    [
        b"",
        b"\xff\xfe",
        b"{",
        b"[]",
        b'{"agent": 2}',
        b'{"agent": "two"}',
        b"[" * 60_000,
        b"0" * (64 << 10) + b"1",
        NEWER,
        OLDER,
    ],
    ids=["empty", "no text", "cut off", "a list", "missing", "wrong type", "deep", "oversized", "newer", "older"],
)
async def test_what_is_no_report_is_left_out_and_logged(redis: Redis, broken: bytes) -> None:
    await write_report(redis, "t", report_of())
    await redis.hset(RunKeys("t").reports, "2", broken)
    with capture_logs() as logs:
        assert await read_reports(redis, "t") == [report_of()]
    (line,) = logs
    assert (line["event"], line["agent"], line["size_bytes"]) == ("report_refused", "2", len(broken))


async def test_a_flood_of_reports_is_refused(redis: Redis) -> None:
    await redis.hset(RunKeys("t").reports, mapping={str(number): b"{}" for number in range(4097)})
    with capture_logs() as logs:
        assert await read_reports(redis, "t") == []
    assert [line["event"] for line in logs] == ["reports_refused"]
