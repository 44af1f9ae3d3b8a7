"""Makes and compares learners and their checkpoints for the tests here."""

from pathlib import Path

import torch

from borgagent.dqn.learner import Learner
from borgagent.dqn.network import QNetwork
from borgagent.dqn.presets import NetworkName
from borgagent.dqn.settings import LearnerSettings
from borgagent.stages.checkpoint import load_checkpoint, save_checkpoint, take_snapshot
from borgcore.replay import ReplaySpec
from tests.unit.borgagent.dqn.learners import TINY, batch_of

SMALL = ReplaySpec("pong", 2, 42, 42, 3, 3, 0.99)
NAMES: dict[ReplaySpec, NetworkName] = {TINY: "tiny", SMALL: "small"}


def learner_of(spec: ReplaySpec = TINY, seed: int = 0) -> Learner:
    torch.manual_seed(seed)
    network = QNetwork(NAMES[spec], spec.stack, spec.height, spec.width, spec.actions)
    return Learner(network, LearnerSettings(compile="never", target_rate=0.25), torch.device("cpu"))


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
