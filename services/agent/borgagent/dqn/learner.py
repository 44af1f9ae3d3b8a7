"""One train step: double DQN on n-step returns, Huber loss, importance weights, an averaged target network."""

import copy
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import DTypeLike, NDArray
from torch import Tensor
from torch.nn.functional import huber_loss
from torch.optim.swa_utils import get_ema_multi_avg_fn

from borgagent.dqn.network import QNetwork
from borgagent.dqn.settings import LearnerSettings
from borgcore.errors import SettingsError
from borgcore.replay.transitions import Batch

# A batch on the device: obs_BSHW, next_obs_BSHW (uint8), action_B (int64), reward_B, discount_B, weight_B (float32)
Tensors = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]
TargetFunction = Callable[[QNetwork, QNetwork, Tensors], Tensor]
LossFunction = Callable[[QNetwork, Tensors, Tensor], tuple[Tensor, Tensor, Tensor]]


def double_q_target(q_online_BA: Tensor, q_target_BA: Tensor, reward_B: Tensor, discount_B: Tensor) -> Tensor:
    """Choose the action by the online network, take its value from the target network; float32 (B,).

    Source: van Hasselt et al. 2016, Deep Reinforcement Learning with Double Q-learning.
    """
    action_B1 = q_online_BA.argmax(dim=1, keepdim=True)
    return reward_B + discount_B * q_target_BA.gather(1, action_B1).squeeze(1)


def td_targets(online: QNetwork, target: QNetwork, batch: Tensors) -> Tensor:
    """Return the values that the Q values of the actions taken should have, float32 (B,); no gradient flows through."""
    _, next_obs_BSHW, _, reward_B, discount_B, _ = batch
    with torch.no_grad():
        centred_BSHW = online.centred(next_obs_BSHW)  # the target network has the same mean image
        return double_q_target(online.values(centred_BSHW), target.values(centred_BSHW), reward_B, discount_B)


def td_loss(online: QNetwork, batch: Tensors, target_B: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the mean weighted Huber loss, the TD errors (B,) and the Q values (B,) of the actions taken.

    The TD errors become the transitions' priorities; only the loss carries a gradient.
    """
    obs_BSHW, _, action_B, _, _, weight_B = batch
    q_B = online(obs_BSHW).gather(1, action_B.unsqueeze(1)).squeeze(1)
    loss = (weight_B * huber_loss(q_B, target_B, reduction="none")).mean()
    return loss, (target_B - q_B).detach(), q_B.detach()


@dataclass(frozen=True, slots=True)
class TrainResult:
    """The result of one train step, computed with the networks as they were before it."""

    td_error_B: NDArray[np.float32]
    """Target minus Q value of the action taken."""
    loss: float
    """Mean weighted Huber loss."""
    mean_q: float
    """Mean Q value of the actions taken."""


class Learner:
    """The online and the target network, their optimiser, and the count of updates.

    On CUDA, batches are in pinned memory and are copied on a stream of their own while the previous step still runs.
    Not thread-safe: no update may run while :meth:`weights` or a checkpoint reads the tensors.
    """

    def __init__(self, network: QNetwork, settings: LearnerSettings, device: torch.device) -> None:
        self.device = device
        self.online = network.to(device)
        self.target = copy.deepcopy(self.online)
        self.optimizer = torch.optim.Adam(
            self.online.parameters(), lr=settings.learning_rate, eps=settings.adam_epsilon, fused=True
        )
        self.updates = 0
        self._average = get_ema_multi_avg_fn(1.0 - settings.target_rate)  # type: ignore[no-untyped-call]  # torch
        self._settings = settings
        self._targets: TargetFunction = td_targets
        self._loss: LossFunction = td_loss
        cuda = device.type == "cuda"
        self._uploads = torch.cuda.Stream(device) if cuda else None  # type: ignore[no-untyped-call]  # torch
        self._bfloat16 = settings.precision == "bfloat16" or (settings.precision == "auto" and cuda)

    def train(self, batch: Tensors) -> TrainResult:
        """Make one update; blocks, so call it in a worker thread."""
        self._await_upload(batch)
        with self._autocast(self._bfloat16):
            target_B = self._targets(self.online, self.target, batch)
            loss, td_error_B, q_B = self._loss(self.online, batch, target_B)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]  # torch
        torch.nn.utils.clip_grad_norm_(self.online.parameters(), self._settings.max_grad_norm)
        self.optimizer.step()
        self.updates += 1
        self._average([*self.target.parameters()], [*self.online.parameters()], self.updates)
        return TrainResult(td_error_B.float().cpu().numpy(), float(loss.detach()), float(q_B.mean()))

    def centre_on(self, obs: Sequence[NDArray[np.uint8]]) -> None:
        """Make both networks subtract the mean image of these batches of frames, each uint8 (B, S, H, W)."""
        frames_BSHW = torch.from_numpy(np.concatenate(obs)).to(self.device)
        for network in (self.online, self.target):
            network.centre_on(frames_BSHW)

    def weights(self) -> dict[str, NDArray[np.float32]]:
        """Copy the target network's tensors to the host; agents act with this average of past online networks.

        Source: D'Oro et al. 2023 (SR-SPR), Schwarzer et al. 2023 (BBF).
        """
        return {name: tensor.detach().float().cpu().numpy() for name, tensor in self.target.state_dict().items()}

    def load_weights(self, arrays: Mapping[str, NDArray[np.float32]]) -> None:
        """Replace the tensors of both networks by published weights."""
        for network in (self.online, self.target):
            network.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()})

    def allocate(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """Allocate an array for a batch: page-locked if batches are copied to a GPU, uninitialised."""
        if self._uploads is None:
            return np.empty(shape, dtype)
        like = torch.from_numpy(np.empty(0, dtype))
        pinned: NDArray[Any] = torch.empty(shape, dtype=like.dtype, pin_memory=True).numpy()
        return pinned

    def upload(self, batch: Batch) -> Tensors:
        """Begin to copy a batch to the device; on the CPU the tensors share the batch's memory."""
        arrays = (batch.obs_BSHW, batch.next_obs_BSHW, batch.action_B, batch.reward_B, batch.discount_B, batch.weight_B)
        host = [torch.from_numpy(array) for array in arrays]
        if self._uploads is None:
            return tuple(host)  # type: ignore[return-value]  # six, as listed
        with torch.cuda.stream(self._uploads):
            return tuple(tensor.to(self.device, non_blocking=True) for tensor in host)  # type: ignore[return-value]

    def compile(self, batch: Tensors) -> str | None:
        """Compile the train step for batches of this shape; blocks for up to a minute.

        Works on copies of the networks, so that training can continue uncompiled. ``batch`` must not change meanwhile.
        On a CPU with bfloat16 instructions and precision ``auto``, the compiled step uses bfloat16; the eager step does
        not, because there bfloat16 is slower than float32.

        Returns:
            None if the train step is compiled from now on, else the reason why it stays eager.
        """
        if self._settings.compile == "never":
            return "the settings say never"
        if not any(shutil.which(name) for name in ("c++", "g++", "clang++")):
            return "no C++ compiler was found"
        os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")  # no pool of processes that could outlive this one
        options: dict[str, Any] = {"cpp_wrapper": self.device.type == "cpu"}  # a graph is one call without the GIL
        targets: TargetFunction = torch.compile(td_targets, dynamic=False, options=options)
        loss: LossFunction = torch.compile(td_loss, dynamic=False, options=options)
        bfloat16 = self._bfloat16 or (self._settings.precision == "auto" and has_bfloat16(self.device))
        try:
            self._try_on_copies(targets, loss, batch, bfloat16=bfloat16)
        except Exception as error:  # noqa: BLE001  # the compiler has many errors of its own; training does not need it
            return f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"
        self._targets, self._loss, self._bfloat16 = targets, loss, bfloat16
        return None

    def _try_on_copies(self, targets: TargetFunction, loss: LossFunction, batch: Tensors, *, bfloat16: bool) -> None:
        """Run both functions once, forwards and backwards, which compiles them."""
        online, target = copy.deepcopy(self.online), copy.deepcopy(self.target)
        self._await_upload(batch)
        with self._autocast(bfloat16):
            value, _, _ = loss(online, batch, targets(online, target, batch))
        value.backward()  # type: ignore[no-untyped-call]  # torch

    def _autocast(self, bfloat16: bool) -> torch.autocast:
        """Return autocast without torch's cache of cast weights, which all threads share.

        If one thread compiles while another leaves its autocast context, they take the cache's lock and Python's own in
        opposite orders: a deadlock.
        """
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=bfloat16, cache_enabled=False)

    def _await_upload(self, batch: Tensors) -> None:
        """Make the device wait for the batch's copies; the host does not wait."""
        if self._uploads is None:
            return
        compute = torch.cuda.current_stream(self.device)
        compute.wait_stream(self._uploads)
        for tensor in batch:
            tensor.record_stream(compute)


def choose_device(name: str) -> torch.device:
    """Return the device ``name``; ``auto`` is CUDA if torch finds it, else the CPU.

    Raises:
        SettingsError: ``name`` is ``cuda`` and torch finds none.
    """
    cuda = torch.cuda.is_available()
    if name == "cuda" and not cuda:
        raise SettingsError(f"device: found 'cuda', but torch {torch.__version__} finds none here; nothing was started")
    return torch.device("cuda" if cuda and name != "cpu" else "cpu")


def has_bfloat16(device: torch.device) -> bool:
    """Return whether the processor has bfloat16 instructions; emulated bfloat16 is slower than float32."""
    found = torch.cpu.get_capabilities()
    return device.type == "cpu" and any(found.get(name, False) for name in ("avx512_bf16", "amx_bf16"))
