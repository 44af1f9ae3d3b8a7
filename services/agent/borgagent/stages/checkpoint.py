"""Checkpoints of the learner: safetensors for the tensors, JSON for the rest; written whole or not at all.

A checkpoint is a folder ``<updates>`` with ``tensors.safetensors`` and ``checkpoint.json``. It is written beside its
place and renamed into it; the JSON holds the SHA-256 of both files. The newest two are kept, so one good one is always
there.
"""

import hashlib
import os
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal, Self

import orjson
import safetensors.torch
import structlog
import torch
from anyio import create_memory_object_stream, to_thread
from pydantic import TypeAdapter
from safetensors import SafetensorError
from torch import Tensor

from borgagent.dqn.learner import Learner
from borgcore.errors import MismatchError, SettingsError
from borgcore.replay import ReplaySpec

TENSORS, DESCRIPTION = "tensors.safetensors", "checkpoint.json"
FORMAT: Literal[1] = 1
KEPT = 2
_PLACE = re.compile(r"[0-9]{12}")  # updates; a private learner's folder, named by its number, may lie beside
_PARTIAL = re.compile(r"\.[0-9]{12}\.[0-9]+")  # updates, process
_MAX_DESCRIPTION_BYTES = 64 << 10
_MAX_TENSOR_BYTES = 1 << 30
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What stands in ``checkpoint.json``."""

    format: Literal[1]
    network: str
    spec: ReplaySpec
    updates: int
    sha256: str  # of the other fields and tensors.safetensors


_ADAPTER: TypeAdapter[Checkpoint] = TypeAdapter(Checkpoint)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A learner's state between two updates, on its way to the disk."""

    description: Checkpoint
    data: bytes  # safetensors


class CheckpointWriter:
    """Writes one checkpoint at a time, in a worker thread; those that come due meanwhile are skipped and counted.

    async with writer as snapshots:  # its end lets run() finish
        if snapshots.ready():
            await snapshots.send(snapshot)
    """

    def __init__(self, folder: Path) -> None:
        self.skipped = 0
        """Checkpoints left out because the one before was still being written."""
        self._folder = folder
        self._writing = False
        self._skipped_in_a_row = 0

    async def __aenter__(self) -> Self:
        self._send, self._receive = create_memory_object_stream[Snapshot](1)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._send.aclose()

    def ready(self) -> bool:
        """Return whether the disk is free for a checkpoint that is due; count it as skipped if not."""
        if not self._writing:
            return True
        self.skipped += 1
        if not self._skipped_in_a_row:
            _log.warning(
                "checkpoint_delayed",
                path=str(self._folder),
                reason="the checkpoint before is still being written",
                consequence="checkpoints are skipped until it is done, training and publishing go on",
            )
        self._skipped_in_a_row += 1
        return False

    async def send(self, snapshot: Snapshot) -> None:
        """Hand a checkpoint over for writing; one more may wait behind the one that is being written."""
        self._writing = True
        await self._send.send(snapshot)

    async def run(self) -> None:
        """Write what is sent, until the end of the block above and of what was sent before it."""
        async with self._receive:
            async for snapshot in self._receive:
                await self._write(snapshot)
                self._writing = False

    async def _write(self, snapshot: Snapshot) -> None:
        """Write one; a checkpoint that cannot be written is logged and left out, the one before stays."""
        began_s, skipped = time.monotonic(), self._skipped_in_a_row
        try:
            place = await to_thread.run_sync(save_checkpoint, self._folder, snapshot)
        except OSError as error:
            _log.error(
                "checkpoint_failed",
                path=str(self._folder),
                reason=error.strerror,
                consequence="the last good checkpoint stays, training goes on",
            )
        else:
            _log.info(
                "checkpoint_saved",
                path=str(place),
                size_bytes=len(snapshot.data),
                duration_s=round(time.monotonic() - began_s, 3),
                skipped=self._skipped_in_a_row - skipped,
            )
        self._skipped_in_a_row = 0


def take_snapshot(learner: Learner, network: str, spec: ReplaySpec) -> Snapshot:
    """Copy the learner's state; blocks, and no update may run meanwhile."""
    data = safetensors.torch.save(dict(_tensors(learner)))
    description = Checkpoint(FORMAT, network, spec, learner.updates, sha256="")
    return Snapshot(replace(description, sha256=_digest(description, data)), data)


def save_checkpoint(folder: Path, snapshot: Snapshot) -> Path:
    """Write a checkpoint and remove all older ones but the newest; blocks.

    Raises:
        OSError: the disk is full or the folder cannot be written; earlier checkpoints are untouched.
    """
    place = folder / f"{snapshot.description.updates:012d}"
    partial = folder / f".{place.name}.{os.getpid()}"
    try:
        shutil.rmtree(partial, ignore_errors=True)  # in a container a killed process and its successor share a number
        partial.mkdir(parents=True)
        _write(partial / TENSORS, snapshot.data)
        _write(partial / DESCRIPTION, orjson.dumps(asdict(snapshot.description), option=orjson.OPT_INDENT_2))
        if place.exists():  # the same count of updates, saved before: the newer write replaces it
            shutil.rmtree(place)
        partial.rename(place)
    except OSError:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    older = [other for other in _places(folder) if other < place]  # a newer one was not whole, or it had been loaded
    for old in older[KEPT - 1 :]:
        shutil.rmtree(old, ignore_errors=True)
    return place


def load_checkpoint(folder: Path, learner: Learner, network: str, spec: ReplaySpec) -> bool:
    """Go on from the newest checkpoint that is whole; False where there is none. Removes half-written ones; blocks.

    Raises:
        MismatchError: it is of another game, network or shape.
    """
    for partial in folder.glob(".*"):
        if _PARTIAL.fullmatch(partial.name):
            shutil.rmtree(partial, ignore_errors=True)
    for place in _places(folder):
        loaded = _read(place)
        if loaded is None:
            continue
        description, tensors = loaded
        if (description.network, description.spec) != (network, spec):
            raise MismatchError(
                f"checkpoint {place} is of {description.network} on {description.spec}, "
                f"this agent is {network} on {spec}; nothing was loaded, choose another run or checkpoint folder"
            )
        try:
            _restore(learner, tensors)
        except (RuntimeError, KeyError, ValueError) as error:
            reason = " ".join(str(error).split())[:200]
            raise MismatchError(f"checkpoint {place} is of another {network} network: {reason}") from None
        learner.updates = description.updates
        return True
    return False


def _places(folder: Path) -> list[Path]:
    """Finished checkpoints, newest first."""
    if not folder.is_dir():
        return []
    return sorted((place for place in folder.iterdir() if _PLACE.fullmatch(place.name)), reverse=True)


def _read(place: Path) -> tuple[Checkpoint, dict[str, Tensor]] | None:
    """Read one checkpoint; None, with a warning, where it is not whole: the one before is tried then."""
    try:
        description = _ADAPTER.validate_json(_bounded(place / DESCRIPTION, _MAX_DESCRIPTION_BYTES))
        data = _bounded(place / TENSORS, _MAX_TENSOR_BYTES)
        if _digest(description, data) != description.sha256:
            raise ValueError("its SHA-256 is another's")  # noqa: TRY301  # one place says what was wrong
        return description, safetensors.torch.load(data)
    except (OSError, ValueError, SettingsError, SafetensorError) as error:
        _log.warning("checkpoint_skipped", path=str(place), reason=str(error).splitlines()[0])
        return None


def _digest(description: Checkpoint, data: bytes) -> str:
    return hashlib.sha256(orjson.dumps(asdict(replace(description, sha256=""))) + data).hexdigest()


def _bounded(path: Path, limit: int) -> bytes:
    if (size := path.stat().st_size) > limit:
        raise ValueError(f"{path.name} has {size:,} bytes, expected at most {limit:,}")
    return path.read_bytes()


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _tensors(learner: Learner) -> Iterator[tuple[str, Tensor]]:
    for name, tensor in learner.online.state_dict().items():
        yield f"online.{name}", tensor.contiguous()
    for name, tensor in learner.target.state_dict().items():
        yield f"target.{name}", tensor.contiguous()
    for index, state in learner.optimizer.state_dict()["state"].items():
        for name, tensor in state.items():
            yield f"adam.{index}.{name}", tensor.contiguous()


def _restore(learner: Learner, tensors: dict[str, Tensor]) -> None:
    def part(prefix: str) -> dict[str, Tensor]:
        return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}

    learner.online.load_state_dict(part("online."))
    learner.target.load_state_dict(part("target."))
    optimizer = learner.optimizer.state_dict()
    state: dict[int, dict[str, Tensor]] = {}
    parameters = list(learner.online.parameters())
    for name, tensor in part("adam.").items():
        index, _, field = name.partition(".")
        parameter = parameters[int(index)]
        # the fused optimiser steps through raw memory: moments must lie there as their parameter does
        alike = torch.empty_like(parameter).copy_(tensor) if tensor.shape == parameter.shape else tensor
        state.setdefault(int(index), {})[field] = alike
    learner.optimizer.load_state_dict({**optimizer, "state": state})
