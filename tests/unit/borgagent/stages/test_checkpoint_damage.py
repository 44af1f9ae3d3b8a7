import errno
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from borgagent.stages.checkpoint import DESCRIPTION, TENSORS
from tests.unit.borgagent.dqn.learners import batch_of

from .learners import learner_of, load, names_in, same, save, trained


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def flip(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 4
    path.write_bytes(raw)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def swell(path: Path) -> None:
    os.truncate(path, (1 << 30) + 1)  # sparse


@pytest.mark.parametrize("harm", [truncate, flip, empty, swell, Path.unlink])
@pytest.mark.parametrize("name", [TENSORS, DESCRIPTION])
def test_where_the_newest_is_not_whole_the_one_before_is_taken_with_a_warning(
    tmp_path: Path, harm: Callable[[Path], None], name: str
) -> None:
    good = trained(3)
    save(tmp_path, good)
    newest = save(tmp_path, trained(5))
    harm(newest / name)
    successor = learner_of(seed=1)
    with capture_logs() as logs:
        assert load(tmp_path, successor)
    assert same(successor, good)
    (warning,) = logs
    assert (warning["event"], warning["log_level"], warning["path"]) == ("checkpoint_skipped", "warning", str(newest))
    assert warning["reason"]


def test_no_flipped_bit_in_the_description_is_believed(tmp_path: Path) -> None:
    good = trained(1)
    path = save(tmp_path, good) / DESCRIPTION
    written = path.read_bytes()

    @settings(max_examples=300)
    @given(bit=st.integers(0, 8 * len(written) - 1))
    def check(bit: int) -> None:
        raw = bytearray(written)
        raw[bit // 8] ^= 1 << bit % 8
        path.write_bytes(raw)
        learner = learner_of(seed=1)
        with capture_logs():
            if load(tmp_path, learner):  # the bit changed only white space
                assert same(learner, good)

    check()


def test_after_a_fall_back_new_checkpoints_are_kept_though_a_broken_one_counts_more(tmp_path: Path) -> None:
    for updates in (200, 250):
        learner = learner_of()
        learner.updates = updates
        truncate(save(tmp_path, learner) / TENSORS)
    learner = learner_of()
    for updates in (60, 120, 180):
        learner.updates = updates
        save(tmp_path, learner)
    assert names_in(tmp_path) == ["000000000120", "000000000180", "000000000200", "000000000250"]
    with capture_logs():
        assert load(tmp_path, learner)
    assert learner.updates == 180


def test_half_written_checkpoints_of_killed_processes_do_no_harm_and_are_removed(tmp_path: Path) -> None:
    learner = trained(2)
    save(tmp_path, learner)
    for name in (f".000000000003.{os.getpid()}", ".000000000009.1"):
        (tmp_path / name).mkdir()
        (tmp_path / name / TENSORS).write_bytes(b"half")
    learner.train(batch_of(2))
    save(tmp_path, learner)  # in a container the successor of a killed process can have its id
    successor = learner_of(seed=1)
    assert load(tmp_path, successor)
    assert same(successor, learner)
    assert names_in(tmp_path) == ["000000000002", "000000000003"]


def test_a_full_disk_is_an_error_and_leaves_the_checkpoints_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learner = trained(1)
    save(tmp_path, learner)
    before = learner_of(seed=1)
    load(tmp_path, before)

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    learner.train(batch_of(1))
    with pytest.raises(OSError, match="No space left on device"):
        save(tmp_path, learner)
    assert names_in(tmp_path) == ["000000000001"]
    successor = learner_of(seed=1)
    load(tmp_path, successor)
    assert same(successor, before)


FILLS = """
import resource, signal, sys
from pathlib import Path
from borgagent.stages.checkpoint import Checkpoint, Snapshot, save_checkpoint
from borgcore.replay import ReplaySpec

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))
description = Checkpoint(1, "tiny", ReplaySpec("catch", 1, 10, 5, 1, 3, 0.99), 7, "")
try:
    save_checkpoint(Path(sys.argv[1]), Snapshot(description, b"x" * 1_000_000))
except OSError as error:
    print(error.strerror)
"""


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="this system cannot limit file sizes")
def test_a_file_that_cannot_be_written_in_full_leaves_nothing_behind(tmp_path: Path) -> None:
    save(tmp_path, trained(1))
    done = subprocess.run([sys.executable, "-c", FILLS, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout == "File too large\n"
    assert names_in(tmp_path) == ["000000000001"]
    assert load(tmp_path, learner_of())


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match=r"Not a directory|File exists"):
        save(tmp_path / "file" / "checkpoints", trained(1))
