"""Double DQN with dueling networks, n-step returns, Huber loss and importance weights; reads without meeting I/O."""

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

Tensors = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]
Targets = Callable[[QNetwork, QNetwork, Tensors], Tensor]
Loss = Callable[[QNetwork, Tensors, Tensor], tuple[Tensor, Tensor, Tensor]]


def double_q_target(q_online_BA: Tensor, q_target_BA: Tensor, reward_B: Tensor, discount_B: Tensor) -> Tensor:
    """Choose with the online network, value with the target network; float32 (B,).

    Source: van Hasselt et al. 2016, Deep Reinforcement Learning with Double Q-learning.
    """
    action_B1 = q_online_BA.argmax(dim=1, keepdim=True)
    return reward_B + discount_B * q_target_BA.gather(1, action_B1).squeeze(1)


def td_targets(online: QNetwork, target: QNetwork, batch: Tensors) -> Tensor:
    """What the Q values of the actions taken should be, float32 (B,)."""
    _, next_obs_BSHW, _, reward_B, discount_B, _ = batch
    with torch.no_grad():
        centred_BSHW = online.centred(next_obs_BSHW)  # the target network has the same mean image
        return double_q_target(online.values(centred_BSHW), target.values(centred_BSHW), reward_B, discount_B)


def td_loss(online: QNetwork, batch: Tensors, target_B: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean weighted Huber loss; the TD errors (B,) that become priorities; the Q values (B,) of the actions taken."""
    obs_BSHW, _, action_B, _, _, weight_B = batch
    q_B = online(obs_BSHW).gather(1, action_B.unsqueeze(1)).squeeze(1)
    loss = (weight_B * huber_loss(q_B, target_B, reduction="none")).mean()
    return loss, (target_B - q_B).detach(), q_B.detach()


@dataclass(frozen=True, slots=True)
class Trained:
    """What one train step gave."""

    td_error_B: NDArray[np.float32]
    loss: float
    mean_q: float


class Learner:
    """Online and target network, their optimiser, and the count of updates.

    On CUDA, batches come in pinned memory and are copied on a stream of their own while the step before still runs.
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
        self._targets: Targets = td_targets
        self._loss: Loss = td_loss
        cuda = device.type == "cuda"
        self._copies = torch.cuda.Stream(device) if cuda else None  # type: ignore[no-untyped-call]  # torch
        self._bfloat16 = settings.precision == "bfloat16" or (settings.precision == "auto" and cuda)

    def allocate(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """An array that a batch is decoded into: page-locked where it will be copied to a GPU."""
        if self._copies is None:
            return np.empty(shape, dtype)
        like = torch.from_numpy(np.empty(0, dtype))
        pinned: NDArray[Any] = torch.empty(shape, dtype=like.dtype, pin_memory=True).numpy()
        return pinned

    def upload(self, batch: Batch) -> Tensors:
        """Begin copying a batch to the device; on the CPU the tensors share the batch's memory."""
        arrays = (batch.obs_BSHW, batch.next_obs_BSHW, batch.action_B, batch.reward_B, batch.discount_B, batch.weight_B)
        host = [torch.from_numpy(array) for array in arrays]
        if self._copies is None:
            return tuple(host)  # type: ignore[return-value]  # six, as listed
        with torch.cuda.stream(self._copies):
            return tuple(tensor.to(self.device, non_blocking=True) for tensor in host)  # type: ignore[return-value]

    def centre_on(self, obs: Sequence[NDArray[np.uint8]]) -> None:
        """Take the mean image of batches of frames, each uint8 (B, S, H, W), as the one both networks subtract."""
        frames = torch.from_numpy(np.concatenate(obs)).to(self.device)
        for network in (self.online, self.target):
            network.centre_on(frames)

    def compile(self, batch: Tensors) -> str | None:
        """Compile the train step for batches like this one, on copies: training may go on meanwhile, uncompiled.

        Blocks for up to a minute. ``batch`` must stay as it is until then. On a CPU with instructions for bfloat16 the
        compiled step uses it, unless the settings say otherwise: uncompiled, it would be slower than float32.

        Returns:
            None where the train step is compiled from now on, else why it stays eager.
        """
        if self._settings.compile == "never":
            return "the settings say never"
        if not any(shutil.which(name) for name in ("c++", "g++", "clang++")):
            return "no C++ compiler was found"
        os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")  # no pool of processes that could outlive this one
        options: dict[str, Any] = {"cpp_wrapper": self.device.type == "cpu"}  # a graph is one call without the GIL
        targets: Targets = torch.compile(td_targets, dynamic=False, options=options)
        compiled: Loss = torch.compile(td_loss, dynamic=False, options=options)
        bfloat16 = self._bfloat16 or (self._settings.precision == "auto" and has_bfloat16(self.device))
        online, target = copy.deepcopy(self.online), copy.deepcopy(self.target)
        try:
            self._receive(batch)
            with self._autocast(bfloat16):
                loss, _, _ = compiled(online, batch, targets(online, target, batch))
            loss.backward()  # type: ignore[no-untyped-call]  # torch
        except Exception as error:  # noqa: BLE001  # the compiler's own errors are many; training goes on without it
            return f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"
        self._targets, self._loss, self._bfloat16 = targets, compiled, bfloat16
        return None

    def train(self, batch: Tensors) -> Trained:
        """One update; blocks, so run it in a worker thread."""
        self._receive(batch)
        with self._autocast(self._bfloat16):
            target_B = self._targets(self.online, self.target, batch)
            loss, td_error_B, q_B = self._loss(self.online, batch, target_B)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]  # torch
        torch.nn.utils.clip_grad_norm_(self.online.parameters(), self._settings.max_grad_norm)
        self.optimizer.step()
        self.updates += 1
        self._average([*self.target.parameters()], [*self.online.parameters()], self.updates)
        return Trained(td_error_B.float().cpu().numpy(), float(loss.detach()), float(q_B.mean()))

    def weights(self) -> dict[str, NDArray[np.float32]]:
        """The target network's tensors on the host: agents play with it; no update may run meanwhile.

        Source: D'Oro et al. 2023 (SR-SPR), Schwarzer et al. 2023 (BBF).
        """
        return {name: tensor.detach().float().cpu().numpy() for name, tensor in self.target.state_dict().items()}

    def take_weights(self, arrays: Mapping[str, NDArray[np.float32]]) -> None:
        """Go on from published weights, in both networks."""
        for network in (self.online, self.target):
            network.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()})

    def _autocast(self, bfloat16: bool) -> torch.autocast:
        """Without torch's cache of cast weights, which is one for all threads.

        While one thread compiles and another leaves its context, the cache's lock and Python's own are taken in both
        orders, and the process stands still.
        """
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=bfloat16, cache_enabled=False)

    def _receive(self, batch: Tensors) -> None:
        """Wait, on the device, until the batch's copies have arrived."""
        if self._copies is None:
            return
        compute = torch.cuda.current_stream(self.device)
        compute.wait_stream(self._copies)
        for tensor in batch:
            tensor.record_stream(compute)


def choose_device(name: str) -> torch.device:
    """The device of that name; ``auto`` is CUDA where torch sees it.

    Raises:
        SettingsError: ``cuda`` is asked for and torch sees none.
    """
    cuda = torch.cuda.is_available()
    if name == "cuda" and not cuda:
        raise SettingsError(f"device: found 'cuda', but torch {torch.__version__} sees none here; nothing was started")
    return torch.device("cuda" if cuda and name != "cpu" else "cpu")


def has_bfloat16(device: torch.device) -> bool:
    """Whether the processor multiplies bfloat16 itself; emulated, it is slower than float32."""
    found = torch.cpu.get_capabilities()
    return device.type == "cpu" and any(found.get(name, False) for name in ("avx512_bf16", "amx_bf16"))
