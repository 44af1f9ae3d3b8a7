"""Network weights from the learner to every agent: safetensors in Redis, with a version that only grows."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from redis.asyncio import Redis
from safetensors import SafetensorError

from borgcore.errors import CorruptDataError, MismatchError

Arrays = Mapping[str, NDArray[Any]]
Shapes = Mapping[str, tuple[int, ...]]

_VERSION_DIGITS = 18
_HEADER_BYTES = 1 << 20  # for names, shapes and types of the tensors; far more than any network here needs


@dataclass(frozen=True, slots=True)
class Weights:
    """One published version; ``data`` is a safetensors file."""

    version: int
    data: bytes


def encode_weights(arrays: Arrays) -> bytes:
    """Pack float32 arrays as one safetensors file."""
    return safetensors.numpy.save({name: np.asarray(array, order="C") for name, array in arrays.items()})


def decode_weights(data: bytes, expected: Shapes) -> dict[str, NDArray[Any]]:
    """Unpack a safetensors file that must hold exactly the ``expected`` names and shapes, all float32 and finite.

    Raises:
        CorruptDataError: the data is not safetensors, or a value is not a finite float32.
        MismatchError: names or shapes are those of another network.
    """
    try:
        arrays = safetensors.numpy.load(data)
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise CorruptDataError(
            f"weights of {len(data):,} bytes are not safetensors ({error}); they are not used"
        ) from None
    found = {name: array.shape for name, array in arrays.items()}
    if found != dict(expected):
        odd = min(set(found.items()) ^ set(expected.items()))[0]
        raise MismatchError(
            f"weights hold {odd} as {found.get(odd, 'nothing')}, this network as {expected.get(odd, 'nothing')}; "
            "they belong to another preset or game and are not used"
        )
    for name, array in arrays.items():
        if array.dtype != np.float32 or not np.isfinite(array).all():
            raise CorruptDataError(
                f"weights hold {name} as {array.dtype} or not finite, expected finite float32; they are not used"
            )
    return arrays


def weights_size_limit(expected: Shapes) -> int:
    """Return an upper bound on the bytes of float32 weights of these shapes as safetensors."""
    return _HEADER_BYTES + 4 * sum(int(np.prod(shape)) for shape in expected.values())


async def publish_weights(redis: Redis, key: str, weights: Weights) -> None:
    """Publish ``weights`` for all agents; ``key`` is :meth:`borgcore.run.keys.RunKeys.weights`."""
    await redis.hset(key, mapping={"version": weights.version, "data": weights.data})


async def fetch_weights(redis: Redis, key: str, newer_than: int, max_bytes: int) -> Weights | None:
    """Fetch the published weights, or return None if none are newer than ``newer_than``.

    Raises:
        CorruptDataError: the stored version is invalid, or the data exceeds ``max_bytes``; it was not fetched.
    """
    version = await redis.hget(key, "version")
    if version is None:
        return None
    length = await redis.hstrlen(key, "data")
    if not version.isdigit() or len(version) > _VERSION_DIGITS or length > max_bytes:
        raise CorruptDataError(
            f"{key} holds version {version[:20]!r} with {length:,} bytes, expected a number and at most {max_bytes:,}; "
            "the weights are not used"
        )
    if int(version) <= newer_than:
        return None
    stored: list[Any] = await redis.hmget(key, ["version", "data"])  # bytes: decode_responses is off
    found, data = stored
    if found != version or data is None:
        return None  # replaced in between: the next call fetches the newer one
    return Weights(int(version), data)
