"""Stand-ins for a run's monitor and logshipper."""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest
from redis.asyncio import Redis

from tests.limits import STARTS_S
from tests.valkey import ValkeyServer

from .process import Start, alive, begin, read, wait_counted
from .programs import HELPER, PLAYS, SAYS_LAST, SHIPS, WATCHES

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc; only Linux ends orphans")
PENDING = 'redis.xadd("borg:{" + run + ":r0}:events:training_log", {"v": "{}"})\n'


Hire = Callable[[str, str], None]


@pytest.fixture
def hire(tmp_path: Path) -> Hire:
    """Write the program that runs as the monitor or the logshipper; without it neither is started."""

    def write(name: str, program: str) -> None:
        (tmp_path / f"{name}.py").write_text(HELPER + program)

    return write


@pytest.fixture
def monitor(hire: Hire) -> None:
    hire("monitor", WATCHES)


@pytest.fixture
def logshipper(hire: Hire) -> None:
    hire("logshipper", SHIPS)


@pytest.mark.usefixtures("monitor", "logshipper")
async def test_agents_end_before_the_monitor_and_the_logshipper_when_all_is_stored(
    start: Start, tmp_path: Path
) -> None:
    borg = await begin(start, SAYS_LAST + PLAYS, "--agents", "1")
    await borg.ready(1)
    await borg.wait_count("monitor-ready", 1)
    await borg.wait_count("logshipper-ready", 1)
    children = await borg.children(4)
    borg.interrupt()
    assert await borg.ended() == 0
    assert (tmp_path / "order").read_text() == "agent monitor stored logshipper "
    assert not any(map(alive, children))
    output = await read(borg.output)
    assert "did not get into" not in output
    assert {path.name for path in await read(lambda: list(borg.folder.path.glob("*.log")))} == {
        "agent-1.log",
        "monitor.log",
        "logshipper.log",
    }


@pytest.mark.usefixtures("monitor", "logshipper")
async def test_it_is_the_same_with_a_server_of_ones_own(start: Start, tmp_path: Path) -> None:
    server = ValkeyServer(data_dir=tmp_path / "own")
    await read(server.start)
    try:
        borg = await begin(start, SAYS_LAST + PLAYS, "--agents", "1", "--redis-url", server.connection_url)
        async with Redis(port=server.port) as redis:
            for key in ("agents-ready", "monitor-ready", "logshipper-ready"):
                await wait_counted(redis, key, 1)
        borg.interrupt()
        assert await borg.ended() == 0
        assert (tmp_path / "order").read_text() == "agent monitor stored logshipper "
    finally:
        await read(server.stop)


@pytest.mark.usefixtures("monitor", "logshipper")
async def test_a_monitor_and_a_logshipper_that_were_killed_are_started_again(start: Start) -> None:
    borg = await begin(start, PLAYS, "--agents", "1")
    await borg.ready(1)
    for name in ("monitor", "logshipper"):
        await borg.wait_count(f"{name}-ready", 1)
        victim = next(pid for pid, line in (await borg.children(4)).items() if f"{name}.py" in line)
        os.kill(victim, signal.SIGKILL)
        await borg.wait_count(f"{name}-ready", 2)
        await borg.writes(
            rf"the {name} \(process {victim}\) was ended by SIGKILL: .*; starting it again in .*{name}.log"
        )
    borg.interrupt()
    assert await borg.ended() == 0


@pytest.mark.usefixtures("monitor")
async def test_a_logshipper_that_dies_while_the_last_events_wait_is_started_again(
    start: Start, tmp_path: Path, hire: Hire
) -> None:
    once = "if redis.get('logshipper-ready') == b'1':\n    redis.blpop('die')\n    os._exit(9)\n"
    hire("logshipper", once + SHIPS)
    dies = SAYS_LAST.replace("redis.xadd", "redis.rpush('die', 1)\n    redis.xadd")
    borg = await begin(start, dies + PLAYS, "--agents", "1")
    await borg.ready(1)
    await borg.wait_count("logshipper-ready", 1)
    borg.interrupt()
    assert await borg.ended() == 0
    assert (tmp_path / "order").read_text() == "agent monitor stored logshipper "


@pytest.mark.parametrize(
    ("program", "text"),
    [
        ("print('borg-monitor: no such thing')\nsys.exit(2)\n", "borg-monitor: no such thing"),
        (
            "raise ValueError('boom')\n",
            r"the monitor \(process \d+\) ended .* 1: ValueError: boom; it was death 5 within .* runs/one/monitor.log",
        ),
    ],
)
async def test_a_monitor_that_cannot_go_on_is_said_and_said_again_at_the_end_of_a_run_that_goes_on(
    start: Start, hire: Hire, program: str, text: str
) -> None:
    hire("monitor", program)
    borg = await begin(start, PLAYS, "--agents", "1")
    await borg.ready(1)
    await borg.writes(rf"\d {text}; the run goes on without the monitor\n")
    borg.interrupt()
    assert await borg.ended() == 0
    await borg.writes(rf"\nbut: {text}; the run goes on without the monitor\n")


async def test_what_a_logshipper_that_gave_up_left_is_counted_at_once(start: Start, hire: Hire) -> None:
    hire("logshipper", "sys.exit(2)\n")
    borg = await begin(start, PENDING + PLAYS, "--agents", "1")
    await borg.ready(1)
    await borg.writes("the run goes on without the logshipper")
    borg.interrupt()
    assert await borg.ended() == 0
    await borg.writes(
        "\nbut: 1 event did not get into runs/one/events.sqlite; they stay in the run's log, and --resume stores them\n"
    )


async def test_events_that_cannot_be_stored_in_time_are_counted_and_stay(start: Start, hire: Hire) -> None:
    hire("logshipper", WATCHES)
    borg = await begin(start, PENDING + PLAYS, "--agents", "2", TEST_BORG_SHIPPING_S="0.5")
    await borg.ready(2)
    borg.interrupt()
    assert await borg.ended() == 0
    await borg.writes("\nbut: 2 events did not get into runs/one/events.sqlite; they stay in the run's log")
    hire("logshipper", SHIPS)
    again = await begin(start, PLAYS, "--resume")
    await again.ready(4)
    again.interrupt()
    assert await again.ended() == 0
    assert "did not get into" not in await read(again.output)


async def test_a_server_that_is_gone_at_the_end_leaves_it_unknown_what_was_stored(
    start: Start, tmp_path: Path, hire: Hire
) -> None:
    hire("logshipper", WATCHES)
    server = ValkeyServer(data_dir=tmp_path / "own")
    await read(server.start)
    try:
        stops = SAYS_LAST.replace("    sys.exit(0)", "    redis.shutdown(nosave=True)\n    sys.exit(0)")
        borg = await begin(start, stops + PLAYS, "--agents", "1", "--redis-url", server.connection_url)
        async with Redis(port=server.port) as redis:
            await wait_counted(redis, "agents-ready", 1)
            await wait_counted(redis, "logshipper-ready", 1)
        borg.interrupt()
        assert await borg.ended() == 0
        await borg.writes(
            r"\nbut: it is unknown whether all events got into runs/one/events.sqlite: Redis at .*; "
            "the rest stays in the run's log, and --resume stores it\n"
        )
    finally:
        await read(server.terminate)


async def test_a_second_ctrl_c_cuts_the_wait_for_the_last_events_off(start: Start, hire: Hire) -> None:
    hire("logshipper", "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + WATCHES)
    borg = await begin(start, PENDING + PLAYS, "--agents", "1")
    await borg.ready(1)
    await borg.wait_count("logshipper-ready", 1)
    children = await borg.children(3)
    borg.interrupt()
    await borg.writes("storing the last events: 1 to go")
    with anyio.fail_after(STARTS_S):
        while borg.process.poll() is None:  # what comes within half a second of the first counts as the same
            borg.interrupt()
            await anyio.sleep(0.1)
    assert await borg.ended() == 130
    await borg.writes("\nborg: cut off: 1 event did not get into runs/one/events.sqlite")
    assert not any(map(alive, children))
    assert "bye bye" in await read(borg.valkey_log)


async def test_a_logshipper_that_does_not_drain_is_killed_and_the_exit_code_stays_the_runs_own(
    start: Start, hire: Hire
) -> None:
    hire("logshipper", "signal.signal(signal.SIGTERM, signal.SIG_IGN)\nredis.incr('deaf')\n" + WATCHES)
    borg = await begin(start, PLAYS, "--agents", "1", TEST_BORG_HELPER_GRACE_S="0.2")
    await borg.ready(1)
    await borg.wait_count("deaf", 1)
    borg.interrupt()
    assert await borg.ended() == 0
    await borg.writes("\nbut: the logshipper did not drain within 0.2 s and was killed; log: runs/one/logshipper.log\n")


@pytest.mark.usefixtures("monitor", "logshipper")
async def test_when_valkey_dies_only_that_is_said(start: Start) -> None:
    borg = await begin(start, PLAYS, "--agents", "1")
    await borg.ready(1)
    await borg.wait_count("logshipper-ready", 1)
    children = await borg.children(4)
    os.kill(next(pid for pid, line in children.items() if "valkey" in line), signal.SIGKILL)
    assert await borg.ended() == 3
    output = await read(borg.output)
    assert "but: " not in output
    assert output.count("Valkey was ended by SIGKILL") == 2, "in the phase and in the last line"
    assert not any(map(alive, children))
