import os
import re
import signal
import stat
import sys
from pathlib import Path

import anyio
import pytest
from redis.asyncio import Redis

from borgcore.run.keys import RunKeys
from tests.limits import LONG_TEST_TIMEOUT_S, STARTS_S
from tests.valkey import ValkeyServer

from .process import LOOK_S, Borg, Start, alive, begin, children_of, read
from .programs import PLAYS

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc; only Linux ends orphans")


async def test_valkey_keeps_a_log_everything_said_to_it_and_its_password_to_itself(start: Start) -> None:
    borg = await begin(start, PLAYS, "--agents", "1")
    await borg.ready(1)
    lines = await borg.children(2)
    password = await read(lambda: borg.option("requirepass"))
    assert len(password) >= 32
    assert not any(password in line for line in lines.values())
    config = borg.folder.valkey / "valkey.conf"
    assert stat.S_IMODE((await read(config.stat)).st_mode) == 0o600
    socket = Path(await read(lambda: borg.option("unixsocket")))
    async with borg.redis() as redis:
        found = await redis.config_get("port", "appendonly", "appendfsync", "maxmemory-policy", "save")
        assert found == {
            "port": "0",
            "appendonly": "yes",
            "appendfsync": "everysec",
            "maxmemory-policy": "noeviction",
            "save": "",
        }
    borg.interrupt()
    assert await borg.ended() == 0
    assert not await read(socket.parent.exists)
    written = await read(lambda: {path: path.read_bytes() for path in borg.folder.path.rglob("*") if path.is_file()})
    assert [path for path, content in written.items() if password.encode() in content] == [config]


async def test_the_death_of_valkey_ends_the_run_with_its_last_lines(start: Start) -> None:
    borg = await begin(start, PLAYS, "--agents", "2")
    await borg.ready(2)
    children = await borg.children(3)
    os.kill(next(pid for pid, line in children.items() if "valkey" in line), signal.SIGKILL)
    assert await borg.ended() == 3
    assert not any(map(alive, children))
    assert re.search(
        r"^borg: Valkey was ended by SIGKILL; its last lines: .*; its log is runs/one/valkey/valkey.log$",
        await read(borg.output),
        re.MULTILINE,
    )


async def append_only_file(borg: Borg) -> Path:
    return await read(lambda: next(borg.folder.valkey.rglob("*.incr.aof")))


async def test_a_memory_whose_last_write_was_torn_is_resumed(start: Start) -> None:
    borg = await begin(start, PLAYS, "--agents", "1")
    await borg.ready(1)
    borg.interrupt()
    assert await borg.ended() == 0
    path = await append_only_file(borg)
    await read(lambda: os.truncate(path, path.stat().st_size - 3))
    again = await begin(start, PLAYS, "--resume")
    await again.ready(2)
    again.interrupt()
    assert await again.ended() == 0


async def test_a_memory_that_valkey_cannot_read_is_its_error_in_one_line(start: Start) -> None:
    borg = await begin(start, PLAYS, "--agents", "1")
    await borg.ready(1)
    borg.interrupt()
    assert await borg.ended() == 0
    path = await append_only_file(borg)
    await read(lambda: path.write_bytes(b"no protocol" * 10))
    again = await begin(start, PLAYS, "--resume")
    assert await again.ended() == 3
    assert re.search(
        r"^borg: Valkey ended with exit code 1 while starting: .*Bad file format reading the append only file",
        await read(again.output),
        re.MULTILINE,
    )


async def test_a_valkey_that_cannot_be_started_is_one_line(start: Start) -> None:
    borg = await begin(start, PLAYS, "--agents", "1")
    await borg.ready(1)
    borg.interrupt()
    assert await borg.ended() == 0
    log = borg.folder.valkey / "valkey.log"
    await read(log.unlink)
    await read(log.mkdir)
    again = await begin(start, PLAYS, "--resume")
    assert await again.ended() == 3
    output = await read(again.output)
    assert output.endswith("borg: cannot start Valkey: runs/one/valkey/valkey.log: Is a directory\n")
    assert "Traceback" not in output


async def test_a_server_of_ones_own_is_used_instead_and_left_running(start: Start, tmp_path: Path) -> None:
    server = ValkeyServer(data_dir=tmp_path / "own")
    await read(server.start)
    try:
        async with Redis(port=server.port) as redis:
            await redis.config_set("requirepass", "own")
        redis = Redis(port=server.port, password="own")
        url = f"redis://:own@127.0.0.1:{server.port}"
        borg = await begin(start, PLAYS, "--agents", "1", "--redis-url", url)
        with anyio.fail_after(STARTS_S):
            while not await redis.get("agents-ready"):  # noqa: ASYNC110  # another process counts
                await anyio.sleep(LOOK_S)
        lines = await borg.children(1)
        assert not any(":own@" in line for line in lines.values())
        borg.interrupt()
        assert await borg.ended() == 0
        assert await redis.ping()
        await redis.aclose()
        assert not await read(borg.folder.valkey.exists)
    finally:
        await read(server.stop)


@pytest.mark.timeout(LONG_TEST_TIMEOUT_S)  # real agents: each imports torch
async def test_each_service_connects_as_a_user_of_its_own_that_is_denied_nothing_it_needs(start: Start) -> None:
    borg = await begin(start, None, "--game", "catch", "--agents", "1")
    await borg.serving()
    users: set[str] = set()
    async with borg.redis() as redis:
        with anyio.fail_after(STARTS_S):
            while users < {"agent", "monitor", "logshipper", "default"} or not await redis.exists(
                RunKeys(borg.run).weights()
            ):
                await anyio.sleep(LOOK_S)
                users = {str(client["user"]) for client in await redis.client_list()}
        denied: list[object] = await redis.execute_command("ACL", "LOG")  # type: ignore[no-untyped-call]
        master = await read(lambda: borg.option("requirepass"))
        environments = await read(
            lambda: [Path(f"/proc/{pid}/environ").read_bytes() for pid in children_of(borg.process.pid)]
        )
    borg.interrupt()
    assert await borg.ended() == 0
    assert denied == []
    assert not any(master.encode() in environment for environment in environments)
    assert "did not get into" not in await read(borg.output)
