import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray

from borgcore.errors import CorruptDataError, MismatchError
from borgcore.run.weights import decode_weights, encode_weights, weights_size_limit

SHAPES = {"bias": (3,), "kernel": (2, 2, 3), "scale": ()}
ARRAYS = {name: np.arange(np.prod(shape), dtype=np.float32).reshape(shape) for name, shape in SHAPES.items()}
PACKED = encode_weights(ARRAYS)

finite = st.floats(width=32, allow_nan=False, allow_infinity=False)


@given(
    st.dictionaries(
        st.text(min_size=1, max_size=9).filter(lambda name: name != "__metadata__"),
        array_shapes(min_dims=0, max_dims=4, max_side=3).flatmap(lambda s: arrays(np.float32, s, elements=finite)),
        max_size=4,
    )
)
def test_what_is_encoded_is_decoded(found: dict[str, NDArray[np.float32]]) -> None:
    shapes = {name: array.shape for name, array in found.items()}
    packed = encode_weights(found)
    decoded = decode_weights(packed, shapes)
    assert decoded.keys() == found.keys()
    assert all(np.array_equal(decoded[name], found[name]) for name in found)
    assert len(packed) <= weights_size_limit(shapes)


def test_arrays_that_are_not_contiguous_survive() -> None:
    turned = np.arange(6, dtype=np.float32).reshape(2, 3).T
    assert np.array_equal(decode_weights(encode_weights({"turned": turned}), {"turned": (3, 2)})["turned"], turned)


@given(st.binary(max_size=300))
def test_arbitrary_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(CorruptDataError, match=r"weights of .* bytes are not safetensors .*; they are not used"):
        decode_weights(data, SHAPES)


@given(st.integers(0, len(PACKED) - 1))
def test_truncated_weights_are_refused(length: int) -> None:
    with pytest.raises(CorruptDataError):
        decode_weights(PACKED[:length], SHAPES)


@settings(max_examples=1000)
@given(st.lists(st.integers(0, 8 * len(PACKED) - 1), min_size=1, max_size=8, unique=True))
def test_flipped_bits_give_an_error_or_finite_values_of_the_right_shapes(bits: list[int]) -> None:
    flipped = bytearray(PACKED)
    for bit in bits:
        flipped[bit // 8] ^= 1 << bit % 8
    try:
        found = decode_weights(bytes(flipped), SHAPES)
    except (CorruptDataError, MismatchError):
        return
    assert {name: array.shape for name, array in found.items()} == SHAPES
    assert all(np.isfinite(array).all() for array in found.values())


@pytest.mark.parametrize(
    ("shapes", "text"),
    [
        ({**SHAPES, "bias": (4,)}, r"weights hold bias as \(3,\), this network as \(4,\)"),
        ({**SHAPES, "extra": (4,)}, r"weights hold extra as nothing, this network as \(4,\)"),
        ({"bias": (3,), "scale": ()}, r"weights hold kernel as \(2, 2, 3\), this network as nothing"),
    ],
)
def test_another_networks_weights_are_refused_with_name_and_both_shapes(
    shapes: dict[str, tuple[int, ...]], text: str
) -> None:
    with pytest.raises(MismatchError, match=f"{text}; they belong to another preset or game and are not used"):
        decode_weights(PACKED, shapes)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_one_value_that_is_not_finite_is_refused(value: float) -> None:
    kernel = ARRAYS["kernel"].copy()
    kernel[1, 1, 1] = value
    with pytest.raises(CorruptDataError, match="weights hold kernel as float32 or not finite, expected finite float32"):
        decode_weights(encode_weights({**ARRAYS, "kernel": kernel}), SHAPES)


@pytest.mark.parametrize("kind", [np.float64, np.float16, np.int32])
def test_other_types_are_refused(kind: type[np.generic]) -> None:
    other = safetensors.numpy.save({name: array.astype(kind) for name, array in ARRAYS.items()})
    with pytest.raises(CorruptDataError, match=f"weights hold .* as {np.dtype(kind)} .*expected finite float32"):
        decode_weights(other, SHAPES)
