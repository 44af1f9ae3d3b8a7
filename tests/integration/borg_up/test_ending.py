import signal
import sys
from pathlib import Path

import anyio
import pytest

from borgcore.run.record import read_record
from tests.limits import STARTS_S

from .process import Start, alive, begin, read, wait_for
from .programs import PLAYS

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc; only Linux ends orphans")


async def test_a_run_ends_when_its_time_is_over_and_says_how_to_go_on(start: Start) -> None:
    borg = await begin(start, PLAYS, "--for", "15s", "--agents", "2", "--game", "catch")
    await borg.ready(2)
    assert await borg.ended() == 0
    output = await read(borg.output)
    assert "its time of 0:00:15 is over" in output
    assert "one (catch) 0:00:0" in output
    assert output.endswith("the run's files are in runs/one\ngo on with: driver.py up --resume --run one\n")
    record = await read(lambda: read_record(borg.folder))
    assert (record.game, record.agents, record.exit_code) == ("catch", 2, 0)
    assert record.state == "its time of 0:00:15 is over"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_the_first_signal_drains_agents_first_and_valkey_last(start: Start, number: signal.Signals) -> None:
    borg = await begin(start, PLAYS, "--agents", "2")
    await borg.ready(2)
    children = await borg.children(3)
    borg.interrupt(number)
    assert await borg.ended() == 0
    assert not any(map(alive, children))
    assert "bye bye" in await read(borg.valkey_log)
    again = await begin(start, PLAYS, "--resume")
    await again.ready(4)  # both counters went on from the memory of the first start
    await again.wait_count("agents-drained", 2)
    again.interrupt()
    assert await again.ended() == 0


async def test_the_same_signal_from_two_sides_at_once_is_one_request(start: Start) -> None:
    borg = await begin(start, PLAYS, "--agents", "1", TEST_BORG_ONE_PRESS_S="600")
    await borg.ready(1)
    borg.interrupt()
    borg.interrupt(signal.SIGTERM)
    borg.interrupt()
    assert await borg.ended() == 0


async def test_a_second_ctrl_c_kills_the_agents_and_still_stops_valkey_cleanly(start: Start) -> None:
    deaf = "signal.signal(signal.SIGTERM, lambda *_: redis.incr('heard'))\n" + PLAYS + "while True: signal.pause()\n"
    borg = await begin(start, deaf, "--agents", "2")
    await borg.ready(2)
    children = await borg.children(3)
    borg.interrupt()
    await borg.wait_count("heard", 2)
    with anyio.fail_after(STARTS_S):
        while borg.process.poll() is None:  # what comes within half a second of the first counts as the same
            borg.interrupt()
            await anyio.sleep(0.1)
    assert await borg.ended() == 130
    assert "cut off: the agents were killed" in await read(borg.output)
    assert not any(map(alive, children))
    assert "bye bye" in await read(borg.valkey_log)


async def test_an_agent_that_fails_while_draining_makes_the_exit_code_1(start: Start) -> None:
    fails = "def fail(*_):\n    print('borg-agent: disk full')\n    sys.exit(1)\nsignal.signal(signal.SIGTERM, fail)\n"
    borg = await begin(start, fails + PLAYS, "--agents", "1")
    await borg.ready(1)
    borg.interrupt()
    assert await borg.ended() == 1
    assert "agent process 1 ended with exit code 1 while draining: borg-agent: disk full" in await read(borg.output)


async def test_a_run_ends_when_the_agents_together_reach_the_return(start: Start) -> None:
    plays = "report([18.0] * 10)\nsignal.pause()\n"
    borg = await begin(start, plays, "--agents", "2", "--until-return", "18", "--for", "10m")
    assert await borg.ended() == 0
    assert "the mean return over the newest 20 episodes is 18.00, 18 was asked for" in await read(borg.output)


async def test_an_agent_that_explores_for_good_does_not_keep_the_return_from_being_reached(start: Start) -> None:
    plays = "report([18.0] * 20, epsilon=0.01) if number > 1 else report([-21.0] * 20, epsilon=0.4)\nsignal.pause()\n"
    borg = await begin(start, plays, "--agents", "2", "--until-return", "18", "--for", "10m")
    assert await borg.ended() == 0
    assert "the mean return over the newest 20 episodes is 18.00, 18 was asked for" in await read(borg.output)


async def test_time_that_is_over_before_the_return_was_reached_is_exit_code_5(start: Start) -> None:
    borg = await begin(
        start, "report([17.0] * 20)\nsignal.pause()\n", "--agents", "1", "--until-return", "18", "--for", "15"
    )
    assert await borg.ended() == 5
    assert "borg: its time of 0:00:15 is over before the mean return reached 18: it is 17.00\n" in (
        await read(borg.output)
    )


async def test_a_reader_that_goes_away_does_not_end_the_run(start: Start, tmp_path: Path) -> None:
    (tmp_path / "head.sh").write_text('{ "$@"; echo $? > code; } | head -n 1')
    borg = await begin(start, PLAYS, "--agents", "1", "--for", "2", wrapper=("sh", "head.sh"))
    await wait_for((tmp_path / "code").exists)
    assert await borg.ended() == 0
    await wait_for(lambda: (tmp_path / "code").read_text() == "0\n")
    assert (await read(lambda: read_record(borg.folder))).exit_code == 0
