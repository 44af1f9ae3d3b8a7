import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from borgcore.errors import BorgError
from borglogshipper import replica
from borglogshipper.replica import claim_name
from tests.limits import HANG_S

HOLD = """
import sys
from borglogshipper.replica import claim_name
with claim_name("g") as name:
    print(name, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Locks of a test's own."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(socket, "gethostname", lambda: "host")
    yield tmp_path
    tempfile.tempdir = None


def test_each_of_two_has_a_name_of_its_own_and_the_lowest_number_that_is_free() -> None:
    with claim_name("g") as one:
        with claim_name("g") as two, claim_name("g") as three:
            assert (one, two, three) == ("host-1", "host-2", "host-3")
        with claim_name("g") as again:
            assert again == "host-2"
    with claim_name("g") as first:
        assert first == "host-1"


def test_groups_count_apart() -> None:
    with claim_name("g") as one, claim_name("other") as two:
        assert (one, two) == ("host-1", "host-1")


def test_a_name_is_free_again_after_an_error() -> None:
    with pytest.raises(KeyError), claim_name("g"):
        raise KeyError
    with claim_name("g") as name:
        assert name == "host-1"


def test_the_name_of_a_killed_process_is_free_again(folder: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"TMPDIR": str(folder)},
    )
    assert holder.stdout is not None
    assert holder.stdin is not None
    try:
        assert holder.stdout.readline().strip().endswith(b"-1")
        with claim_name("g") as name:
            assert name == "host-2"
        holder.send_signal(signal.SIGKILL)
        assert holder.wait(HANG_S) == -signal.SIGKILL
        with claim_name("g") as name:
            assert name == "host-1"
    finally:
        holder.kill()
        holder.wait(HANG_S)
        holder.stdin.close()
        holder.stdout.close()


@pytest.mark.parametrize(("host", "name"), [("a b/c", "a-b-c-1"), ("h" * 200, "h" * 60 + "-1"), ("", "host-1")])
def test_a_host_of_any_name_gives_a_name_that_a_group_takes(
    host: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: host)
    with claim_name("g") as found:
        assert found == name


def test_where_all_names_are_taken_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replica, "MAX_REPLICAS", 2)
    with ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(claim_name("g"))
        with pytest.raises(BorgError, match="2 logshippers of group g run here already; nothing was started"):
            stack.enter_context(claim_name("g"))


def test_a_lock_file_that_is_not_ours_is_not_followed(folder: Path) -> None:
    target = folder / "target"
    (folder / f"borg-logshipper-{os.getuid()}-g-1.lock").symlink_to(target)
    with (
        pytest.raises(BorgError, match=r"cannot open .*g-1\.lock: .*; give this replica a name by --member"),
        claim_name("g"),
    ):
        pass
    assert not target.exists()
