"""Real agents, monitor and logshipper: each event that is published once is stored once."""

import json
import os
import signal
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import anyio
import pytest
from redis.asyncio import Redis

from borgcore.eventlog.streams.server import backlog
from borgcore.eventstore.reader import EventFilter
from borgcore.eventstore.sqlite import open_sqlite_reader
from borgcore.run.folder import RunFolder
from tests.limits import LONG_TEST_TIMEOUT_S, STARTS_S
from tests.valkey import ValkeyServer

from .process import LOOK_S, Borg, Start, begin, read
from .programs import BORG

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc; only Linux ends orphans"),
    pytest.mark.timeout(LONG_TEST_TIMEOUT_S),  # each start imports torch, on as few cores as there are
]
AGENTS = (1, 2)
Told = dict[tuple[str, int | None], list[dict[str, Any]]]


def read_told(folder: RunFolder) -> Told:
    """Return the stored events by name and agent, in order of arrival."""
    told: Told = defaultdict(list)
    with open_sqlite_reader(folder.events, EventFilter()) as journal:
        for document in journal.read() if journal else ():
            event = json.loads(document)
            told[event["event"], event.get("agent")].append(event)
    return told


async def tells(borg: Borg, more_than: Told | None = None) -> Told:
    """Wait until both agents and the monitor have published, and the shipper stored, more than before.

    Every agent reports each second; the one that learns may not end another episode, since it plays last (ADR 13).
    """
    wanted = [*(("agent_reported", agent) for agent in AGENTS), ("memory_sampled", None)]
    if more_than is None:
        wanted += [("episode_ended", agent) for agent in AGENTS]  # of the time before the first train step
    before = {key: len(more_than[key]) if more_than else 0 for key in wanted}
    with anyio.fail_after(STARTS_S):
        while True:
            told = await read(lambda: read_told(borg.folder))
            if all(len(told[key]) > count for key, count in before.items()):
                return told
            await anyio.sleep(LOOK_S)


async def kill(borg: Borg, module: str) -> None:
    victim = next(pid for pid, line in (await borg.children(4)).items() if module in line)
    os.kill(victim, signal.SIGKILL)
    await borg.writes(rf"\(process {victim}\) was ended by SIGKILL: .*; starting it again")


async def test_what_agents_and_monitor_tell_is_stored_once_although_monitor_and_logshipper_are_killed(
    start: Start, tmp_path: Path
) -> None:
    server = ValkeyServer(data_dir=tmp_path / "own")  # it outlives the run, and can be asked afterwards
    await read(server.start)
    try:
        (tmp_path / "borg.toml").write_text('health_address = "x"\n')
        env = {"BORG_EVENTS_URL": "kafka://127.0.0.1:1", "BORG_HEALTH_ADDRESS": "x", "BORG_CONFIG": "borg.toml"}
        env["BORG_AGENT_LEASE_S"] = "240"  # no agent is killed here: one that is slow must not lose its number
        arguments = ("--game", "catch", "--agents", "2", "--redis-url", server.connection_url)
        borg = await begin(start, None, *arguments, **env)
        told = await tells(borg)
        await kill(borg, "borglogshipper")
        told = await tells(borg, told)
        await kill(borg, "borgmonitor")
        told = await tells(borg, told)
        borg.interrupt()
        assert await borg.ended() == 0
        assert "did not get into" not in await read(borg.output)
        async with Redis(port=server.port) as redis:
            assert await backlog(redis, borg.run, group="borg-logshipper") == 0
    finally:
        await read(server.stop)

    told = await read(lambda: read_told(borg.folder))
    for agent in AGENTS:
        [_], [ended] = told["run_started", agent], told["run_ended", agent]
        episodes = [event["episode"] for event in told["episode_ended", agent]]
        assert episodes == list(range(1, ended["episodes"] + 1)), "none lost, none twice, in order"
        assert told["agent_reported", agent]
    ids = [event["event_id"] for events in told.values() for event in events]
    assert len(ids) == len(set(ids))

    command = [sys.executable, "-c", BORG, "events", "--event", "run_ended", "--topic", "training_log"]
    printed = await read(lambda: subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True))
    said = [json.loads(line)["event_id"] for line in printed.stdout.splitlines()]
    assert sorted(said) == sorted(told["run_ended", agent][0]["event_id"] for agent in AGENTS)
