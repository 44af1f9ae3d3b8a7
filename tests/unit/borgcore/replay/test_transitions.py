from typing import Any

import numpy as np
import pytest
from numpy.typing import DTypeLike, NDArray

from borgcore.errors import SettingsError
from borgcore.replay.transitions import Batch, ReplaySpec

SPEC = ReplaySpec("pong", stack=4, height=6, width=5, n=3, actions=6, gamma=0.99)


@pytest.mark.parametrize(("k", "frames"), [(1, 5), (3, 7), (4, 8), (9, 8)])
def test_observation_and_successor_share_their_common_frames(k: int, frames: int) -> None:
    assert SPEC.frames(k) == frames


@pytest.mark.parametrize(
    "changed", [{"stack": 0}, {"n": 0}, {"actions": 0}, {"gamma": 1.1}, {"height": 1_000_000}, {"stack": 200, "n": 200}]
)
def test_an_invalid_spec_is_refused(changed: dict[str, Any]) -> None:
    fields: dict[str, Any] = {
        "game": "pong",
        "stack": 4,
        "height": 6,
        "width": 5,
        "n": 3,
        "actions": 6,
        "gamma": 0.99,
    } | changed
    with pytest.raises(SettingsError, match="replay spec"):
        ReplaySpec(**fields)


def test_a_batch_takes_its_memory_from_the_allocator_it_is_given() -> None:
    asked: list[tuple[int, ...]] = []

    def allocate(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        asked.append(shape)
        return np.empty(shape, dtype)

    batch = Batch.empty(SPEC, 3, allocate)
    assert sorted(asked) == sorted([(3,)] * 5 + [(3, 4, 6, 5)] * 2)
    assert [array.dtype.name for array in (batch.ids_B, batch.obs_BSHW, batch.weight_B)] == [
        "int64",
        "uint8",
        "float32",
    ]


def test_a_batch_of_another_shape_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"expected \(4, 4, 6, 5\)"):
        Batch.empty(SPEC, 3).check(SPEC, 4)


def test_a_batch_without_an_allocator_is_of_plain_arrays_that_fit_its_spec() -> None:
    batch = Batch.empty(SPEC, 3)
    batch.check(SPEC, 3)
    assert all(array.flags.c_contiguous and array.flags.owndata for array in (batch.obs_BSHW, batch.next_obs_BSHW))
