from pathlib import Path

import pytest
import torch
from structlog.testing import capture_logs

from borgagent.dqn.learner import Learner
from borgagent.dqn.network import QNetwork
from borgagent.dqn.settings import LearnerSettings
from borgagent.stages.checkpoint import load_checkpoint, save_checkpoint, take_snapshot
from borgcore.errors import MismatchError
from borgcore.replay import ReplaySpec
from tests.unit.borgagent.dqn.learners import TINY, batch_of

from .learners import SMALL, learner_of, load, names_in, same, save, trained


@pytest.mark.parametrize("spec", [TINY, SMALL], ids=lambda spec: spec.game)
def test_a_learner_goes_on_from_a_checkpoint_as_if_it_had_never_stopped(tmp_path: Path, spec: ReplaySpec) -> None:
    learner, successor = trained(6, spec), learner_of(spec, seed=1)
    save(tmp_path, learner, spec)
    assert load(tmp_path, successor, spec)
    assert same(successor, learner)
    for seed in range(100, 105):
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
