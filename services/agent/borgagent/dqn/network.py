"""Dueling Q networks over centred frames.

Shape letters throughout the agent: B batch, N copies of the game, S stacked frames, F frames of a transition,
H height, W width, D features, E hidden units, A actions.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn

from borgagent.dqn.presets import NetworkName

_CONTRAST = 64.0  # grey levels; about how much a ball or a paddle differs from its background

# (channels, kernel, stride) of each convolution, and the width of each hidden layer
_SHAPES: dict[NetworkName, tuple[tuple[tuple[int, int, int], ...], int]] = {
    "tiny": ((), 128),
    "small": (((16, 6, 3), (32, 4, 2), (64, 3, 1)), 256),
    "nature": (((32, 8, 4), (64, 4, 2), (64, 3, 1)), 512),  # Mnih et al. 2015
}


class QNetwork(nn.Module):
    """Q values as a state value plus advantages.

    Frames are centred first: the mean image is subtracted and the difference divided by a constant. On frames merely
    divided by 255, Pong was not learned within 190,000 steps; on centred frames its score rose after 60,000.

    Source: Wang et al. 2016, Dueling Network Architectures for Deep Reinforcement Learning.
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
            features = self.features(torch.zeros(1, stack, height, width)).shape[1]
        self.value = nn.Sequential(nn.Linear(features, hidden), nn.ReLU(), nn.Linear(hidden, 1))
        self.advantage = nn.Sequential(nn.Linear(features, hidden), nn.ReLU(), nn.Linear(hidden, actions))
        self.to(memory_format=torch.channels_last)  # faster for convolutions on both CPU and GPU

    @property
    def device(self) -> torch.device:
        """The device that holds the parameters."""
        return self.mean_HW.device

    def forward(self, obs_BSHW: Tensor) -> Tensor:
        """Return Q values, float32 (B, A), of uint8 frames (B, S, H, W)."""
        return self.values(self.centred(obs_BSHW))

    def centred(self, obs_BSHW: Tensor) -> Tensor:
        """Return uint8 frames (B, S, H, W) as input of :meth:`values`: float32, or autocast's type inside autocast.

        Networks with the same mean image can share the result.
        """
        centred_BSHW = (obs_BSHW.to(self.mean_HW.dtype) - self.mean_HW) / _CONTRAST
        kind = self.device.type
        if not torch.is_autocast_enabled(kind):
            return centred_BSHW
        return centred_BSHW.to(torch.get_autocast_dtype(kind))  # one cast here instead of one in each network

    def values(self, centred_BSHW: Tensor) -> Tensor:
        """Return Q values, float32 (B, A), of centred frames (B, S, H, W)."""
        features_BD = self.features(centred_BSHW)
        value_BE, advantage_BE = self.value[:-1](features_BD), self.advantage[:-1](features_BD)
        with torch.autocast(self.device.type, enabled=False):  # in bfloat16 one in five best actions of Pong ties
            value_B1, advantage_BA = self.value[-1](value_BE.float()), self.advantage[-1](advantage_BE.float())
            q_BA: Tensor = value_B1 + advantage_BA - advantage_BA.mean(dim=1, keepdim=True)
            return q_BA

    @torch.no_grad()
    def centre_on(self, obs_BSHW: Tensor) -> None:
        """Subtract the mean image of these frames, uint8 (B, S, H, W), from now on."""
        self.mean_HW.copy_(obs_BSHW.to(torch.float32).mean(dim=(0, 1)))
