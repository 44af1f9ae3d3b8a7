import errno
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from borgagent.checkpoint import DESCRIPTION, TENSORS, load_checkpoint, save_checkpoint, take_snapshot
from borgagent.learner import Learner, Tensors
from borgagent.network import QNetwork
from borgagent.presets import NetworkName
from borgagent.settings import LearnerSettings
from borgcore.errors import MismatchError
from borgcore.replay import ReplaySpec

TINY = ReplaySpec("catch", 1, 10, 5, 1, 3, 0.99)
SMALL = ReplaySpec("pong", 2, 42, 42, 3, 3, 0.99)
NAMES: dict[ReplaySpec, NetworkName] = {TINY: "tiny", SMALL: "small"}


def learner_of(spec: ReplaySpec = TINY, seed: int = 0) -> Learner:
    torch.manual_seed(seed)
    network = QNetwork(NAMES[spec], spec.stack, spec.height, spec.width, spec.actions)
    return Learner(network, LearnerSettings(compile="never", target_period=4), torch.device("cpu"))


def batch_of(seed: int, spec: ReplaySpec = TINY, size: int = 8) -> Tensors:
    rng = np.random.default_rng(seed)
    shape = (size, spec.stack, spec.height, spec.width)
    return (
        torch.from_numpy(rng.integers(0, 256, shape, np.uint8)),
        torch.from_numpy(rng.integers(0, 256, shape, np.uint8)),
        torch.from_numpy(rng.integers(0, spec.actions, size)),
        torch.from_numpy(rng.uniform(-1, 1, size).astype(np.float32)),
        torch.full((size,), 0.9),
        torch.ones(size),
    )


def trained(updates: int, spec: ReplaySpec = TINY) -> Learner:
    learner = learner_of(spec)
    for seed in range(updates):
        learner.train(batch_of(seed, spec))
    return learner


def save(folder: Path, learner: Learner, spec: ReplaySpec = TINY) -> Path:
    return save_checkpoint(folder, take_snapshot(learner, NAMES[spec], spec))


def load(folder: Path, learner: Learner, spec: ReplaySpec = TINY) -> bool:
    return load_checkpoint(folder, learner, NAMES[spec], spec)


def state_of(learner: Learner) -> list[torch.Tensor]:
    moments = learner.optimizer.state_dict()["state"]
    return [
        *learner.online.state_dict().values(),
        *learner.target.state_dict().values(),
        *(moments[index][name] for index in sorted(moments) for name in sorted(moments[index])),
    ]


def same(one: Learner, other: Learner) -> bool:
    mine, others = state_of(one), state_of(other)
    equal = len(mine) == len(others) and all(map(torch.equal, mine, others))
    return equal and one.updates == other.updates


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("spec", [TINY, SMALL], ids=lambda spec: spec.game)
def test_a_learner_goes_on_from_a_checkpoint_as_if_it_had_never_stopped(tmp_path: Path, spec: ReplaySpec) -> None:
    learner, successor = trained(6, spec), learner_of(spec, seed=1)
    save(tmp_path, learner, spec)
    assert load(tmp_path, successor, spec)
    assert same(successor, learner)
    for seed in range(100, 105):  # past the next copy into the target network
        learner.train(batch_of(seed, spec))
        successor.train(batch_of(seed, spec))
        assert same(successor, learner)


def test_a_learner_that_has_not_trained_yet_can_be_saved_and_loaded(tmp_path: Path) -> None:
    learner, successor = learner_of(), learner_of(seed=1)
    save(tmp_path, learner)
    assert load(tmp_path, successor)
    learner.train(batch_of(0))
    successor.train(batch_of(0))
    assert same(successor, learner)


def test_a_learner_uses_the_learning_rate_of_its_settings_not_the_checkpoints(tmp_path: Path) -> None:
    save(tmp_path, trained(2))
    successor = learner_of()
    successor.optimizer.param_groups[0]["lr"] = 0.125
    load(tmp_path, successor)
    assert successor.optimizer.param_groups[0]["lr"] == 0.125


@pytest.mark.parametrize("folder", ["absent", "."])
def test_without_a_checkpoint_nothing_is_loaded(tmp_path: Path, folder: str) -> None:
    learner = learner_of()
    assert not load(tmp_path / folder, learner)
    assert learner.updates == 0


def test_a_snapshot_does_not_change_with_later_updates(tmp_path: Path) -> None:
    learner = trained(2)
    snapshot = take_snapshot(learner, "tiny", TINY)
    learner.train(batch_of(7))
    save_checkpoint(tmp_path, snapshot)
    successor = learner_of()
    load(tmp_path, successor)
    assert same(successor, trained(2))


def test_the_newest_two_are_kept(tmp_path: Path) -> None:
    learner = learner_of()
    for updates in (9, 10, 100, 1000):
        learner.updates = updates
        save(tmp_path, learner)
    assert names_in(tmp_path) == ["000000000100", "000000001000"]
    assert load(tmp_path, learner)
    assert learner.updates == 1000


def test_saving_at_the_same_count_replaces_the_checkpoint(tmp_path: Path) -> None:
    learner = learner_of()
    save(tmp_path, learner)
    learner.train(batch_of(0))
    learner.updates = 0
    save(tmp_path, learner)
    successor = learner_of(seed=1)
    load(tmp_path, successor)
    assert names_in(tmp_path) == ["000000000000"]
    assert same(successor, learner)


def test_private_learners_folders_beside_are_no_checkpoints_and_stay(tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "000000000005").mkdir(parents=True)
    (tmp_path / "2").mkdir()
    for updates in (5, 6, 7):
        learner = learner_of()
        learner.updates = updates
        save(tmp_path, learner)
    assert names_in(tmp_path) == ["000000000006", "000000000007", "1", "2"]
    with capture_logs() as logs:
        assert load(tmp_path, learner_of())
    assert logs == []


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


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_no_flipped_bit_in_the_description_is_believed(tmp_path: Path, data: st.DataObject) -> None:
    place = save(tmp_path, trained(1))
    path = place / DESCRIPTION
    raw = bytearray(path.read_bytes())
    bit = data.draw(st.integers(0, 8 * len(raw) - 1))
    raw[bit // 8] ^= 1 << bit % 8
    path.write_bytes(raw)
    learner = learner_of(seed=1)
    with capture_logs():
        if load(tmp_path, learner):  # the bit changed only white space
            assert same(learner, trained(1))


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


@pytest.mark.parametrize(
    ("network", "spec", "words"),
    [
        ("tiny", ReplaySpec("pong", 1, 10, 5, 1, 3, 0.99), ["game='catch'", "game='pong'"]),
        ("tiny", ReplaySpec("catch", 1, 10, 5, 3, 3, 0.99), ["n=1", "n=3"]),
        ("small", TINY, ["is of tiny on", "this agent is small on"]),
    ],
)
def test_a_checkpoint_of_something_else_is_refused_with_both_names(
    tmp_path: Path, network: str, spec: ReplaySpec, words: list[str]
) -> None:
    place = save(tmp_path, trained(1))
    learner = learner_of()
    with pytest.raises(MismatchError) as caught:
        load_checkpoint(tmp_path, learner, network, spec)
    text = str(caught.value)
    assert text.startswith(f"checkpoint {place} is of ")
    assert all(word in text for word in words)
    assert text.endswith("; nothing was loaded, choose another run or checkpoint folder")
    assert learner.updates == 0


def test_a_checkpoint_of_a_network_built_otherwise_is_refused(tmp_path: Path) -> None:
    place = save(tmp_path, trained(1))
    torch.manual_seed(0)
    other = Learner(QNetwork("tiny", 1, 10, 6, 3), LearnerSettings(), torch.device("cpu"))
    with pytest.raises(MismatchError, match=f"^checkpoint {place} is of another tiny network: "):
        load(tmp_path, other)


def test_half_written_checkpoints_of_killed_processes_do_no_harm_and_are_removed(tmp_path: Path) -> None:
    learner = trained(2)
    save(tmp_path, learner)
    for name in (f".000000000003.{os.getpid()}", ".000000000009.1"):
        (tmp_path / name).mkdir()
        (tmp_path / name / TENSORS).write_bytes(b"half")
    learner.train(batch_of(2))
    save(tmp_path, learner)  # in a container the successor of a killed process may have its number
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
from borgagent.checkpoint import Checkpoint, Snapshot, save_checkpoint
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
