import os
import re
import signal
import sys
from pathlib import Path

import pytest

from borgcore.run.folder import RunFolder, lock_run
from borgcore.run.record import read_record

from .process import Start, begin, children_of, read, wait_gone
from .programs import PLAYS

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc; only Linux ends orphans")


async def test_an_agent_that_does_not_drain_is_killed_after_its_grace_and_named(start: Start) -> None:
    deaf = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + PLAYS
    borg = await begin(start, deaf, "--agents", "1", TEST_BORG_GRACE_S="0.3")
    await borg.ready(1)
    borg.interrupt()
    assert await borg.ended() == 1
    assert "borg: agent process 1 did not drain within 0.3 s and was killed; log: runs/one/agent-1.log\n" in (
        await read(borg.output)
    )


async def test_an_agent_that_was_killed_is_started_again(start: Start) -> None:
    borg = await begin(start, PLAYS, "--agents", "2")
    await borg.ready(2)
    children = await borg.children(3)
    victim = next(pid for pid, line in children.items() if "agent.py" in line)
    os.kill(victim, signal.SIGKILL)
    await borg.ready(3)
    assert victim not in await borg.children(3)
    borg.interrupt()
    assert await borg.ended() == 0
    assert re.search(
        rf"agent process \d \(process {victim}\) was ended by SIGKILL: .*; starting it again", await read(borg.output)
    )


async def test_an_agent_that_dies_again_and_again_ends_the_run(start: Start) -> None:
    borg = await begin(start, "raise ValueError('boom')\n", "--agents", "1")
    assert await borg.ended() == 1
    output = await read(borg.output)
    assert output.count("starting it again") == 4
    assert re.search(
        r"^borg: agent process 1 .* ended with exit code 1: ValueError: boom; "
        r"it was death 5 within 60 s, giving up; log: runs/one/agent-1.log$",
        output,
        re.MULTILINE,
    )


@pytest.mark.parametrize("code", [2, 3, 4])
async def test_an_error_that_a_restart_would_meet_again_ends_the_run_with_its_code(start: Start, code: int) -> None:
    says = f"print('borg-agent: no such thing', file=sys.stderr)\nsys.exit({code})\n"
    borg = await begin(start, says, "--agents", "2")
    assert await borg.ended() == code
    output = await read(borg.output)
    assert "starting it again" not in output
    assert output.endswith("borg: borg-agent: no such thing\n")
    assert not await read(borg.folder.path.exists), "nobody played, so the name is free for another try"


async def test_nothing_outlives_a_borg_that_is_killed_and_the_run_goes_on(start: Start) -> None:
    borg = await begin(start, PLAYS, "--agents", "2")
    await borg.ready(2)
    children = await borg.children(3)
    socket = Path(await read(lambda: borg.option("unixsocket")))
    borg.interrupt(signal.SIGKILL)
    again = await begin(start, PLAYS, "--resume")  # at once: it waits for what is left of the first
    await wait_gone(children)
    await again.ready(4)
    again.interrupt()
    assert await again.ended() == 0
    assert not await read(socket.parent.exists)


async def test_borg_drains_when_the_uv_that_started_it_is_killed(start: Start, tmp_path: Path) -> None:
    uv = "import subprocess, sys\nopen('/proc/self/comm', 'w').write('uv')\nsubprocess.run(sys.argv[1:])\n"
    (tmp_path / "uv.py").write_text(uv)
    parent = await begin(start, PLAYS, "--agents", "1", wrapper=(sys.executable, "uv.py"))
    await parent.ready(1)
    borg = await parent.children(1)
    family = borg | await read(lambda: children_of(next(iter(borg))))
    assert len(family) == 3
    parent.interrupt(signal.SIGKILL)
    await wait_gone(family)
    assert (await read(lambda: read_record(parent.folder))).exit_code == 0


async def test_a_run_that_runs_is_not_started_twice(start: Start) -> None:
    borg = await begin(start, PLAYS, "--agents", "1")
    await borg.ready(1)
    second, third = await begin(start, PLAYS), await begin(start, PLAYS, "--resume")
    assert await second.ended() == 2
    assert "run one exists already in runs/one; go on with it by --resume --run one" in await read(second.output)
    assert await third.ended() == 2
    assert f"run one is running already, as process {borg.process.pid}" in await read(third.output)
    await borg.children(2)
    borg.interrupt()
    assert await borg.ended() == 0


async def test_a_held_run_is_not_resumed(start: Start, tmp_path: Path) -> None:
    borg = await begin(start, PLAYS, "--agents", "1", "--for", "1")
    assert await borg.ended() == 0
    with lock_run(RunFolder(tmp_path / "runs" / "one")):
        again = await begin(start, PLAYS, "--resume")
        assert await again.ended() == 2
