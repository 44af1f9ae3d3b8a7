import json
from pathlib import Path

import pytest

from borgcore.errors import CorruptDataError
from borgcore.run.folder import RunFolder, lock_run
from borgcore.run.record import RunRecord, borg_version, list_runs, read_record, write_record


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    made = RunFolder(tmp_path / "one")
    made.create()
    return made


RECORD = RunRecord(game="pong", preset="small", agents=3, seed=7, capacity=1000)


def test_a_record_is_read_as_it_was_written(folder: RunFolder) -> None:
    write_record(folder, RECORD)
    assert read_record(folder) == RECORD
    assert json.loads(folder.record.read_text())["borg"] == borg_version()
    assert [path.name for path in folder.path.iterdir()] == ["run.json"]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"game": "pong"}', b"\xff\xfe", b'{"agents": "many"}'])
def test_what_is_no_record_is_named(folder: RunFolder, content: bytes) -> None:
    folder.record.write_bytes(content)
    with pytest.raises(CorruptDataError, match=r"run\.json is no run record: .*; nothing was started"):
        read_record(folder)


def test_an_absent_record_is_named(folder: RunFolder) -> None:
    with pytest.raises(CorruptDataError, match=r"cannot read .*run\.json: No such file"):
        read_record(folder)


def test_a_run_whose_borg_was_killed_is_not_said_to_run(folder: RunFolder) -> None:
    assert RECORD.describe_state(folder) == "killed"
    with lock_run(folder):
        assert RECORD.describe_state(folder) == "running"
    assert RECORD.ended("its time is over", 0).describe_state(folder) == "its time is over"


def test_runs_are_listed_newest_first_and_what_is_none_is_left_out(tmp_path: Path) -> None:
    for name in ("old", "new", "none"):
        RunFolder(tmp_path / name).create()
    (tmp_path / "file").touch()
    write_record(RunFolder(tmp_path / "old"), RECORD)
    write_record(RunFolder(tmp_path / "new"), RECORD.started())
    assert [folder.run for folder, _ in list_runs(tmp_path)] == ["new", "old"]
    assert list_runs(tmp_path / "absent") == []
