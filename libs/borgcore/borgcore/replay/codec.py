"""Encode and decode specs and transitions; the only importer of ``wire``.

Two codecs are generated from one .proto (docs/adr/0001): betterproto2's dataclasses are the messages a service handles
one at a time, google's upb runtime packs and parses whole batches of transitions.
"""

import math
import struct
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError

from borgcore.errors import CorruptDataError, SettingsError
from borgcore.replay import frames
from borgcore.replay.transitions import Batch, ReplaySpec, Transition
from borgcore.wire.better.borg.v1 import ReplaySpec as SpecMessage
from borgcore.wire.better.borg.v1 import Transition as TransitionMessage
from borgcore.wire.upb.borg.v1.transition_pb2 import Transition as PackedTransition

_MESSAGE_OVERHEAD_BYTES = 64  # all fields but the frames, with room to spare
_SPEC_LIMIT_BYTES = 4096
_FLOAT_MAX = float(np.finfo(np.float32).max)
_header = struct.Struct("<IffI")  # action, reward, discount, k: what the checksum covers before the frames


def encode_spec(spec: ReplaySpec) -> bytes:
    """Pack a spec for storing."""
    return bytes(
        SpecMessage(
            game=spec.game,
            stack=spec.stack,
            height=spec.height,
            width=spec.width,
            n=spec.n,
            actions=spec.actions,
            gamma=spec.gamma,
        )
    )


def decode_spec(message: bytes) -> ReplaySpec:
    """Parse a stored spec.

    Raises:
        CorruptDataError: the bytes are not a spec.
    """
    if len(message) > _SPEC_LIMIT_BYTES:
        raise CorruptDataError(f"replay spec: {len(message)} bytes, at most {_SPEC_LIMIT_BYTES} are expected")
    try:
        found = SpecMessage.parse(message)
        return ReplaySpec(found.game, found.stack, found.height, found.width, found.n, found.actions, found.gamma)
    except CorruptDataError:
        raise
    except Exception as error:  # betterproto2 lets any exception of its parser through
        raise CorruptDataError(f"replay spec: {len(message)} bytes do not parse ({error})") from error


def message_limit_bytes(spec: ReplaySpec) -> int:
    """Return the longest message of a transition of ``spec``: zstd's bound for its frames, plus the other fields."""
    raw = spec.frames(spec.n) * spec.height * spec.width
    return raw + (raw >> 8) + 512 + _MESSAGE_OVERHEAD_BYTES


def encode_transitions(spec: ReplaySpec, transitions: Sequence[Transition]) -> list[bytes]:
    """Compress and pack transitions; call it in a thread.

    Raises:
        SettingsError: a transition does not fit the spec.
    """
    for transition in transitions:
        _check(spec, transition)
    return [PackedTransition(**_fields(transition)).SerializeToString() for transition in transitions]


def decode_transitions(spec: ReplaySpec, messages: Sequence[bytes], out: Batch, first: int) -> list[int]:
    """Unpack messages into the rows of ``out`` from ``first`` on: observations, action, reward and discount.

    Call it in a thread; calls may share a batch if their rows differ. Nothing is raised for corrupt messages, but
    their rows are undefined.

    Returns:
        The rows of the corrupt messages, ascending.
    """
    limit_bytes = message_limit_bytes(spec)
    stack, frame_bytes = spec.stack, spec.height * spec.width
    corrupt: list[int] = []
    scalars: list[tuple[int, float, float]] = []
    for row, message in enumerate(messages, first):
        try:
            found = _parse(spec, message, limit_bytes)
            content = frames.decompress(found.frames, spec.frames(found.k) * frame_bytes)
        except CorruptDataError:
            corrupt.append(row)
            scalars.append((0, 0.0, 0.0))
            continue
        frames_FHW = content.reshape(-1, spec.height, spec.width)
        out.obs_BSHW[row] = frames_FHW[:stack]
        out.next_obs_BSHW[row] = frames_FHW[-stack:]
        scalars.append((found.action, found.reward, found.discount))
    rows = slice(first, first + len(messages))
    out.action_B[rows], out.reward_B[rows], out.discount_B[rows] = (
        zip(*scalars, strict=True) if scalars else ((), (), ())
    )
    return corrupt


def encode_transition(spec: ReplaySpec, transition: Transition) -> bytes:
    """Pack one transition by betterproto2: the same bytes as :func:`encode_transitions`, slower."""
    _check(spec, transition)
    return bytes(TransitionMessage(**_fields(transition)))


def decode_transition(spec: ReplaySpec, message: bytes) -> Transition:
    """Unpack one transition; its priority is 0, because the message has none.

    Raises:
        CorruptDataError: the bytes are truncated, oversized, or not a transition of this spec.
    """
    found = _parse(spec, message, message_limit_bytes(spec))
    shape = (spec.frames(found.k), spec.height, spec.width)
    frames_FHW = frames.decompress(found.frames, math.prod(shape)).reshape(shape)
    return Transition(frames_FHW, found.action, found.reward, found.discount, found.k, priority=0.0)


def _fields(transition: Transition) -> dict[str, Any]:
    """Return the message's fields, frames compressed; the same for both codecs."""
    frame = frames.compress(transition.frames_FHW)
    action, k = transition.action, transition.k
    # + 0.0 turns -0.0 into 0.0, which the two codecs would pack differently
    reward, discount = transition.reward + 0.0, transition.discount + 0.0
    checksum = _checksum(frame, action, reward, discount, k)
    return {"frames": frame, "action": action, "reward": reward, "discount": discount, "k": k, "checksum": checksum}


def _checksum(frame: bytes, action: int, reward: float, discount: float, k: int) -> int:
    return zlib.crc32(frame, zlib.crc32(_header.pack(action, reward, discount, k)))


def _parse(spec: ReplaySpec, message: bytes, limit_bytes: int) -> PackedTransition:
    """Parse and check everything but the frames' content."""
    if len(message) > limit_bytes:
        raise CorruptDataError(f"transition: {len(message)} bytes, at most {limit_bytes} are expected; it is skipped")
    try:
        found = PackedTransition.FromString(message)
    except DecodeError as error:
        raise CorruptDataError(f"transition: {len(message)} bytes do not parse ({error}); it is skipped") from error
    k = found.k
    if _checksum(found.frames, found.action, found.reward, found.discount, k) != found.checksum:
        raise CorruptDataError(f"transition: checksum of {len(message)} bytes is wrong; it is skipped")
    if not 1 <= k <= spec.n or found.action >= spec.actions:
        raise CorruptDataError(
            f"transition: k is {k}, action {found.action}; "
            f"expected 1..{spec.n} and 0..{spec.actions - 1}; it is skipped"
        )
    if not (math.isfinite(found.reward) and 0.0 <= found.discount <= 1.0):
        raise CorruptDataError(f"transition: reward {found.reward}, discount {found.discount}; it is skipped")
    return found


def _check(spec: ReplaySpec, transition: Transition) -> None:
    """Refuse what :func:`_parse` would reject as corrupt."""
    expected = (spec.frames(transition.k), spec.height, spec.width)
    frames_FHW = transition.frames_FHW
    if not 1 <= transition.k <= spec.n or frames_FHW.shape != expected or frames_FHW.dtype != np.uint8:
        raise SettingsError(
            f"transition: k is {transition.k}, frames are {frames_FHW.dtype} {frames_FHW.shape}; "
            f"expected k 1..{spec.n} and uint8 {expected}; nothing was stored"
        )
    if not (
        0 <= transition.action < spec.actions
        and abs(transition.reward) <= _FLOAT_MAX
        and 0.0 <= transition.discount <= 1.0
    ):
        raise SettingsError(
            f"transition: action {transition.action}, reward {transition.reward}, discount {transition.discount}; "
            f"expected action 0..{spec.actions - 1}, a finite reward and discount 0..1; nothing was stored"
        )
