"""``borg up`` with real agents, on the small pixel game."""

import signal
import sys
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from borgcore.replay import ReplayStats, read_stats
from borgcore.run.record import read_record
from borgcore.run.reports import AgentReport, read_reports
from tests.limits import LONG_TEST_TIMEOUT_S, STARTS_S

from .process import LOOK_S, Borg, Start, begin, children_of, read, wait_gone

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc; only Linux ends orphans"),
    pytest.mark.timeout(LONG_TEST_TIMEOUT_S),  # each start imports torch, on as few cores as there are
]
CATCH = ("--game", "catch", "--agents", "2")
Seen = tuple[list[AgentReport], ReplayStats]


def learner_updates(seen: Seen) -> int:
    return max((report.learner.updates for report in seen[0] if report.learner), default=0)


async def see(borg: Borg, condition: Callable[[Seen], bool]) -> Seen:
    """Wait until ``condition`` holds for this start's reports and the memory, and return them."""
    await borg.serving()
    children = set()
    async with borg.redis() as redis:
        with anyio.fail_after(STARTS_S):
            while True:
                children |= set(await read(lambda: children_of(borg.process.pid)))
                reports = [report for report in await read_reports(redis, borg.run) if report.pid in children]
                stats = await read_stats(redis, borg.run)
                if stats is not None and condition((reports, stats)):
                    return reports, stats
                await anyio.sleep(LOOK_S)


async def test_catch_is_learnt_by_two_agents_and_a_resumed_run_goes_on_where_it_was(start: Start) -> None:
    borg = await begin(start, None, *CATCH, "--until-return", "0.5")
    assert await borg.ended() == 0
    assert "the mean return over the newest 20 episodes is" in await read(borg.output)
    assert (await read(lambda: read_record(borg.folder))).state.startswith("the mean return")

    again = await begin(start, None, "--resume")
    reports, stats = await see(
        again, lambda seen: len(seen[0]) == 2 and learner_updates(seen) > 0 and all(r.weights_version for r in seen[0])
    )
    first = learner_updates((reports, stats))
    assert {report.agent for report in reports} == {1, 2}
    assert first >= 100, "the learner counts on from its checkpoint"
    assert stats.inserted > 500, "and the memory is the one that was filled before"

    family = await read(lambda: children_of(again.process.pid))
    assert len(family) == 5, "Valkey, two agents, monitor and logshipper"
    again.interrupt(signal.SIGKILL)
    await wait_gone(family)

    last = await begin(start, None, "--resume")
    _, found = await see(last, lambda seen: learner_updates(seen) > 0)
    assert found.inserted >= stats.inserted, "a killed borg loses nothing that was stored"
    last.interrupt()
    assert await last.ended() == 0


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (("--game", "pnog"), 2, "borg: borg-agent: .*pnog"),
        (("--game", "catch", "--redis-url", "unix:///tmp/borg-absent.sock"), 3, "borg: borg-agent: .*borg-absent.sock"),
    ],
)
async def test_what_an_agent_refuses_is_borgs_error_in_one_line(
    start: Start, tmp_path: Path, arguments: tuple[str, ...], code: int, text: str
) -> None:
    borg = await begin(start, None, "--agents", "1", *arguments)
    assert await borg.ended() == code
    output = await read(borg.output)
    assert "Traceback" not in output
    await borg.writes(text)
    assert not await read((tmp_path / "runs" / "one").exists), "the name is free for another try"
