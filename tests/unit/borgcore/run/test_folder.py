import os
import subprocess
import sys
from pathlib import Path

import pytest

from borgcore.errors import SettingsError
from borgcore.run import folder as folder_module
from borgcore.run.folder import RunFolder, is_running, lock_run


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    made = RunFolder(tmp_path / "runs" / "one")
    made.create()
    return made


def test_a_run_that_exists_is_not_made_again_and_the_error_says_how_to_go_on(folder: RunFolder) -> None:
    with pytest.raises(SettingsError, match=r"run one exists already in .*; go on with it by --resume --run one"):
        folder.create()


def test_two_runs_with_one_name_are_refused_naming_the_first(folder: RunFolder) -> None:
    with (
        lock_run(folder),
        pytest.raises(SettingsError, match=rf"run one is running already, as process {os.getpid()};"),
        lock_run(folder),
    ):
        pass


def test_a_lock_is_free_when_its_holder_is_done(folder: RunFolder) -> None:
    assert not is_running(folder)
    with lock_run(folder):
        assert is_running(folder)
    assert not is_running(folder)
    with lock_run(folder):
        pass


def test_an_orphan_holds_the_run_although_its_borg_is_gone(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder_module, "_ORPHANS_S", 0.1)
    with lock_run(folder) as file:
        orphan = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=[file])
    try:
        with subprocess.Popen([sys.executable, "-c", ""]) as gone:
            gone.wait()
        folder.lock.write_text(f"{gone.pid}\n")
        with (
            pytest.raises(SettingsError, match="still held by a process that an earlier borg left behind"),
            lock_run(folder),
        ):
            pass
    finally:
        orphan.communicate(b"\n")
    with lock_run(folder):
        pass
