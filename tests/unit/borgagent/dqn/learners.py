"""Small learners, and batches to train them on."""

import numpy as np
import torch
from torch import nn

from borgagent.dqn.learner import Learner, Tensors
from borgagent.dqn.network import QNetwork
from borgagent.dqn.settings import LearnerSettings
from borgcore.replay import ReplaySpec

CPU = torch.device("cpu")
EAGER = LearnerSettings(compile="never", learning_rate=1e-3, target_rate=0.25)
B, S, H, W, A = 16, 1, 10, 5, 3
TINY = ReplaySpec("catch", S, H, W, 1, A, 0.99)


def learner_of(settings: LearnerSettings = EAGER, seed: int = 0) -> Learner:
    torch.manual_seed(seed)
    return Learner(QNetwork("tiny", S, H, W, A), settings, CPU)


def batch_of(seed: int = 0, spec: ReplaySpec = TINY) -> Tensors:
    rng = np.random.default_rng(seed)
    shape = (B, spec.stack, spec.height, spec.width)
    return (
        torch.from_numpy(rng.integers(0, 256, shape, np.uint8)),
        torch.from_numpy(rng.integers(0, 256, shape, np.uint8)),
        torch.from_numpy(rng.integers(0, spec.actions, B)),
        torch.from_numpy(rng.uniform(-1, 1, B).astype(np.float32)),
        torch.full((B,), 0.9),
        torch.ones(B),
    )


def same(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(mine, others) for mine, others in pairs)
