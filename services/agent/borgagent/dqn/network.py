"""Dueling Q networks over centred frames.

Shape letters, here and in all of the agent: B batch, N copies of the game, S stacked frames, F frames of a transition,
H height, W width, E hidden units, A actions.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn

from borgagent.dqn.presets import NetworkName

_CONTRAST = 64.0  # grey levels; a ball or a paddle stands out from its background by about this much

# (channels, kernel, stride) of each convolution, and the width of each hidden layer
_SHAPES: dict[NetworkName, tuple[tuple[tuple[int, int, int], ...], int]] = {
    "tiny": ((), 128),
    "small": (((16, 6, 3), (32, 4, 2), (64, 3, 1)), 256),
    "nature": (((32, 8, 4), (64, 4, 2), (64, 3, 1)), 512),  # Mnih et al. 2015
}


class QNetwork(nn.Module):
    """Q values by a state value and advantages; Wang et al. 2016, Dueling Network Architectures.

    Frames are centred before anything else: the mean image is subtracted and the rest divided by a constant. With raw
    frames over 255, Pong was not learned in 190,000 steps; centred, its score rose at 60,000.
    """

    def __init__(self, name: NetworkName, stack: int, height: int, width: int, actions: int) -> None:
        super().__init__()
        convolutions, hidden = _SHAPES[name]
        layers: list[nn.Module] = []
        for before, (channels, kernel, stride) in pairwise(((stack, 0, 0), *convolutions)):
            layers += [nn.Conv2d(before[0], channels, kernel, stride), nn.ReLU()]
        self.features = nn.Sequential(*layers, nn.Flatten())
        self.register_buffer("mean_HW", torch.full((height, width), 127.5))
        self.mean_HW: Tensor
        with torch.no_grad():
            width_of_features = self.features(torch.zeros(1, stack, height, width)).shape[1]
        self.value = nn.Sequential(nn.Linear(width_of_features, hidden), nn.ReLU(), nn.Linear(hidden, 1))
        self.advantage = nn.Sequential(nn.Linear(width_of_features, hidden), nn.ReLU(), nn.Linear(hidden, actions))
        self.to(memory_format=torch.channels_last)  # the faster layout for convolutions on CPU and GPU alike

    @property
    def device(self) -> torch.device:
        """Where the network runs."""
        return self.mean_HW.device

    def forward(self, obs_BSHW: Tensor) -> Tensor:
        """Q values, float32 (B, A), of uint8 frames (B, S, H, W)."""
        return self.values(self.centred(obs_BSHW))

    def centred(self, obs_BSHW: Tensor) -> Tensor:
        """What :meth:`values` takes, (B, S, H, W), of uint8 frames; the same for networks of one mean image."""
        centred_BSHW = (obs_BSHW.to(self.mean_HW.dtype) - self.mean_HW) / _CONTRAST
        kind = self.device.type
        if not torch.is_autocast_enabled(kind):
            return centred_BSHW
        return centred_BSHW.to(torch.get_autocast_dtype(kind))  # once; autocast would do it in each network

    def values(self, centred_BSHW: Tensor) -> Tensor:
        """Q values, float32 (B, A), of centred frames."""
        features = self.features(centred_BSHW)
        value_BE, advantage_BE = self.value[:-1](features), self.advantage[:-1](features)
        with torch.autocast(self.device.type, enabled=False):  # in bfloat16 a fifth of Pong's best actions would tie
            value_B1, advantage_BA = self.value[-1](value_BE.float()), self.advantage[-1](advantage_BE.float())
            q_BA: Tensor = value_B1 + advantage_BA - advantage_BA.mean(dim=1, keepdim=True)
            return q_BA

    @torch.no_grad()
    def centre_on(self, obs_BSHW: Tensor) -> None:
        """Take the mean image of these frames, uint8 (B, S, H, W), as the one to subtract from now on."""
        self.mean_HW.copy_(obs_BSHW.to(torch.float32).mean(dim=(0, 1)))
