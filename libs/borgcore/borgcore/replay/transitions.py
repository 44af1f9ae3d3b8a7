"""The contents of the replay memory as plain values; B batch, F frames, S stacked frames, H height, W width."""

from dataclasses import dataclass, fields
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import DTypeLike, NDArray

from borgcore.errors import SettingsError

MAX_FRAMES = 1 << 8
MAX_FRAME_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class ReplaySpec:
    """The properties all transitions of a run share; stored once per run. Agents with another spec are refused."""

    game: str
    stack: int  # frames per observation
    height: int  # pixels
    width: int  # pixels
    n: int  # steps a transition spans at most
    actions: int  # actions are 0 .. actions - 1
    gamma: float  # discount per step

    def __post_init__(self) -> None:
        """Refuse an invalid spec.

        Raises:
            SettingsError: a size is not positive or too large, or gamma is outside 0..1.
        """
        frames, frame_bytes = self.stack + min(self.n, self.stack), self.height * self.width
        if min(self.stack, self.height, self.width, self.n, self.actions) < 1:
            raise SettingsError(f"replay spec: stack, height, width, n and actions must be at least 1, found {self}")
        if frames > MAX_FRAMES or frame_bytes > MAX_FRAME_BYTES:
            raise SettingsError(
                f"replay spec: {frames} frames of {frame_bytes} bytes a transition, "
                f"at most {MAX_FRAMES} of {MAX_FRAME_BYTES} are supported"
            )
        if not 0.0 <= self.gamma <= 1.0:
            raise SettingsError(f"replay spec: gamma is {self.gamma}, expected 0..1")

    def frames(self, k: int) -> int:
        """Return the distinct frames of a transition that spans ``k`` steps; its two observations share the others."""
        return self.stack + min(k, self.stack)


@dataclass(frozen=True, slots=True)
class Transition:
    """One n-step transition, self-contained: observation and successor share their common frames."""

    frames_FHW: NDArray[np.uint8]  # oldest first; the first ``stack`` are obs, the last ``stack`` next_obs
    action: int
    reward: float  # n-step sum, each step clipped
    discount: float  # 0 when the episode, or a life, terminated; gamma**k otherwise, also when truncated
    k: int  # steps spanned, 1..n
    priority: float  # |TD error| as the actor saw it; not part of the message


class Allocate(Protocol):
    """Allocates a batch's arrays: plain, or page-locked for copies to a GPU."""

    def __call__(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """Return an uninitialised C-contiguous array."""
        ...


def _allocate(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    return np.empty(shape, dtype)


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch of samples in reusable host arrays; B = batch size, S = stacked frames, H, W from the spec."""

    ids_B: NDArray[np.int64]  # for reprioritise
    obs_BSHW: NDArray[np.uint8]  # 0..255, unscaled
    next_obs_BSHW: NDArray[np.uint8]
    action_B: NDArray[np.int64]
    reward_B: NDArray[np.float32]  # n-step sum, each step clipped
    discount_B: NDArray[np.float32]  # gamma**k; 0 where the episode, or a life, terminated, not where it was truncated
    weight_B: NDArray[np.float32]  # importance weights, largest is 1

    @classmethod
    def empty(cls, spec: ReplaySpec, batch_size: int, allocate: Allocate = _allocate) -> Self:
        """Allocate arrays for ``batch_size`` samples; ``allocate`` may return pinned memory."""
        shape = (batch_size, spec.stack, spec.height, spec.width)
        return cls(
            ids_B=allocate((batch_size,), np.int64),
            obs_BSHW=allocate(shape, np.uint8),
            next_obs_BSHW=allocate(shape, np.uint8),
            action_B=allocate((batch_size,), np.int64),
            reward_B=allocate((batch_size,), np.float32),
            discount_B=allocate((batch_size,), np.float32),
            weight_B=allocate((batch_size,), np.float32),
        )

    def __len__(self) -> int:
        return len(self.ids_B)

    def check(self, spec: ReplaySpec, batch_size: int) -> None:
        """Refuse arrays of other shapes.

        Raises:
            SettingsError: a shape differs.
        """
        expected = (batch_size, spec.stack, spec.height, spec.width)
        if len(self) != batch_size or self.obs_BSHW.shape != expected or self.next_obs_BSHW.shape != expected:
            raise SettingsError(
                f"replay batch: {len(self)} rows of observations {self.obs_BSHW.shape} and {self.next_obs_BSHW.shape}, "
                f"expected {expected}"
            )

    def copy_rows(self, source: NDArray[np.int64], target: list[int]) -> None:
        """Overwrite the rows ``target`` with the rows ``source``."""
        for field in fields(self):
            rows: NDArray[Any] = getattr(self, field.name)
            rows[target] = rows[source]
