import math
import struct
import zlib
from typing import Any

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from borgcore.errors import CorruptDataError, SettingsError
from borgcore.replay.codec import (
    decode_spec,
    decode_transition,
    decode_transitions,
    encode_spec,
    encode_transition,
    encode_transitions,
    message_limit_bytes,
)
from borgcore.replay.transitions import Batch, ReplaySpec, Transition
from borgcore.wire.upb.borg.v1.transition_pb2 import Transition as Packed

SPEC = ReplaySpec("pong", stack=4, height=6, width=5, n=5, actions=6, gamma=0.99)
floats = st.floats(width=32, allow_nan=False, allow_infinity=False)


@st.composite
def transitions(draw: st.DrawFn) -> Transition:
    k = draw(st.integers(1, SPEC.n))
    shape = (SPEC.frames(k), SPEC.height, SPEC.width)
    seed = draw(st.integers(0, 2**32 - 1))
    frames = np.random.default_rng(seed).integers(0, draw(st.integers(1, 256)), shape, np.uint8)
    action, discount = draw(st.integers(0, SPEC.actions - 1)), draw(st.floats(0, 1, width=32))
    return Transition(frames, action, draw(floats), discount, k, priority=1.0)


def same(one: Transition, other: Transition) -> bool:
    return (
        np.array_equal(one.frames_FHW, other.frames_FHW)
        and (one.action, one.k) == (other.action, other.k)
        and (one.reward, one.discount) == (other.reward, other.discount)
    )


def packed(frames: bytes, **fields: Any) -> bytes:
    """Return a message with a correct checksum and these fields."""
    values: dict[str, Any] = {"action": 0, "reward": 0.0, "discount": 0.5, "k": 1} | fields
    header = struct.pack("<IffI", values["action"], values["reward"], values["discount"], values["k"])
    return Packed(frames=frames, checksum=zlib.crc32(frames, zlib.crc32(header)), **values).SerializeToString()


@given(transitions())
def test_a_transition_survives_the_round_trip(transition: Transition) -> None:
    assert same(decode_transition(SPEC, encode_transition(SPEC, transition)), transition)


@given(st.lists(transitions(), max_size=8))
def test_a_batch_of_any_mix_of_spans_survives_the_round_trip(wanted: list[Transition]) -> None:
    batch = Batch.empty(SPEC, len(wanted) + 1)
    assert decode_transitions(SPEC, encode_transitions(SPEC, wanted), batch, 1) == []
    for row, transition in enumerate(wanted, 1):
        assert np.array_equal(batch.obs_BSHW[row], transition.frames_FHW[: SPEC.stack])
        assert np.array_equal(batch.next_obs_BSHW[row], transition.frames_FHW[-SPEC.stack :])
        assert batch.action_B[row] == transition.action
        assert batch.reward_B[row] == transition.reward
        assert batch.discount_B[row] == transition.discount


@given(transitions())
def test_both_codecs_write_the_same_bytes(transition: Transition) -> None:
    assert encode_transitions(SPEC, [transition]) == [encode_transition(SPEC, transition)]


def test_both_codecs_write_the_same_bytes_for_negative_zero() -> None:
    frames = np.zeros((SPEC.frames(1), SPEC.height, SPEC.width), np.uint8)
    transition = Transition(frames, 0, -0.0, -0.0, 1, 0.0)
    assert encode_transitions(SPEC, [transition]) == [encode_transition(SPEC, transition)]


@given(transitions(), st.data())
def test_every_truncation_is_reported_as_corrupt(transition: Transition, data: st.DataObject) -> None:
    message = encode_transition(SPEC, transition)
    cut = data.draw(st.integers(0, len(message) - 1))
    with pytest.raises(CorruptDataError, match="transition"):
        decode_transition(SPEC, message[:cut])


@settings(max_examples=500)
@given(transitions(), st.data())
def test_flipped_bits_are_reported_as_corrupt_or_change_nothing(transition: Transition, data: st.DataObject) -> None:
    message = bytearray(encode_transition(SPEC, transition))
    for bit in data.draw(st.lists(st.integers(0, 8 * len(message) - 1), min_size=1, max_size=3)):
        message[bit // 8] ^= 1 << bit % 8
    try:
        found = decode_transition(SPEC, bytes(message))
    except CorruptDataError:
        return
    assert same(found, transition)


@given(st.binary(max_size=400))
def test_foreign_bytes_are_reported_as_corrupt(message: bytes) -> None:
    with pytest.raises(CorruptDataError):
        decode_transition(SPEC, message)


def test_a_message_longer_than_any_of_its_spec_is_refused_unparsed() -> None:
    with pytest.raises(CorruptDataError, match=f"at most {message_limit_bytes(SPEC)} are expected"):
        decode_transition(SPEC, bytes(message_limit_bytes(SPEC) + 1))


def test_no_message_of_incompressible_frames_exceeds_the_limit() -> None:
    rng = np.random.default_rng(0)
    spec = ReplaySpec("pong", 4, 84, 84, 3, 6, 0.99)
    frames = rng.integers(0, 256, (7, 84, 84), np.uint8)
    assert len(encode_transition(spec, Transition(frames, 0, 0.0, 0.0, 3, 0.0))) <= message_limit_bytes(spec)


def test_frames_that_claim_another_size_are_refused_before_they_are_decompressed() -> None:
    bomb = zstandard.ZstdCompressor().compress(bytes(1 << 26))
    assert len(bomb) < 10_000
    spec = ReplaySpec("pong", 4, 84, 84, 3, 6, 0.99)
    with pytest.raises(CorruptDataError, match="decompress to 67108864 bytes, expected 35280"):
        decode_transition(spec, packed(bomb))


def test_frames_without_a_content_size_are_refused() -> None:
    frames = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(150))
    with pytest.raises(CorruptDataError, match="expected 150"):
        decode_transition(SPEC, packed(frames))


@pytest.mark.parametrize(
    "fields", [{"k": 0}, {"k": 6}, {"action": 6}, {"reward": math.nan}, {"discount": 1.5}, {"discount": math.nan}]
)
def test_fields_outside_their_range_are_reported_as_corrupt(fields: dict[str, Any]) -> None:
    frames = zstandard.ZstdCompressor().compress(bytes(150))
    assert decode_transition(SPEC, packed(frames)).k == 1
    with pytest.raises(CorruptDataError):
        decode_transition(SPEC, packed(frames, **fields))


@given(transitions())
def test_a_corrupt_message_spoils_no_other_row_of_its_batch(transition: Transition) -> None:
    batch, good = Batch.empty(SPEC, 3), encode_transition(SPEC, transition)
    assert decode_transitions(SPEC, [good, good[:-1], good], batch, 0) == [1]
    for row in (0, 2):
        assert np.array_equal(batch.obs_BSHW[row], transition.frames_FHW[: SPEC.stack])
        assert batch.action_B[row] == transition.action


@pytest.mark.parametrize(
    ("k", "frames", "action", "reward", "discount"),
    [
        (0, 4, 0, 0.0, 0.0),
        (6, 8, 0, 0.0, 0.0),
        (2, 5, 0, 0.0, 0.0),
        (1, 5, 6, 0.0, 0.0),
        (1, 5, -1, 0.0, 0.0),
        (1, 5, 0, math.nan, 0.0),
        (1, 5, 0, 1e39, 0.0),
        (1, 5, 0, 0.0, 1.1),
    ],
)
def test_a_transition_that_does_not_fit_the_spec_is_refused_before_it_is_stored(
    k: int, frames: int, action: int, reward: float, discount: float
) -> None:
    transition = Transition(np.zeros((frames, 6, 5), np.uint8), action, reward, discount, k, 0.0)
    with pytest.raises(SettingsError, match="nothing was stored"):
        encode_transitions(SPEC, [transition])


@given(st.text(max_size=20), st.integers(1, 200), st.floats(0, 1))
def test_a_spec_survives_the_round_trip(game: str, size: int, gamma: float) -> None:
    spec = ReplaySpec(game, 4, size, size, 3, 6, gamma)
    assert decode_spec(encode_spec(spec)) == spec


@given(st.binary(max_size=200))
def test_foreign_bytes_are_not_a_spec(message: bytes) -> None:
    with pytest.raises(CorruptDataError):
        decode_spec(message)
