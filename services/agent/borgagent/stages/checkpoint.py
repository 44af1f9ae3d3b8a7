"""Checkpoints of the learner: safetensors for the tensors, JSON for everything else.

A checkpoint is a folder ``<updates>`` with ``tensors.safetensors`` and ``checkpoint.json``; the JSON holds the SHA-256
of both files. It is written under a temporary name and renamed when complete. The newest two are kept, so that one is
whole at any time.
"""

import hashlib
import os
import re
import shutil
import time
from collections.abc import Awaitable, Callable, Iterator
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
_FINISHED = re.compile(r"[0-9]{12}")  # updates; shorter names beside are folders of private learners
_PARTIAL = re.compile(r"\.[0-9]{12}\.[0-9]+")  # updates, process id
_MAX_DESCRIPTION_BYTES = 64 << 10
_MAX_TENSOR_BYTES = 1 << 30
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The content of ``checkpoint.json``."""

    format: Literal[1]
    network: str
    spec: ReplaySpec
    updates: int
    sha256: str  # of the other fields and tensors.safetensors


_ADAPTER: TypeAdapter[Checkpoint] = TypeAdapter(Checkpoint)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A learner's state between two updates, to be written."""

    description: Checkpoint
    data: bytes  # safetensors


class CheckpointWriter:
    """Writes one checkpoint at a time in a worker thread; a checkpoint due while another is being written is skipped.

    async with writer:  # the end of the block lets run() return
        await writer.offer(take)
    """

    def __init__(self, folder: Path) -> None:
        self.skipped = 0
        """Checkpoints skipped so far."""
        self._folder = folder
        self._writing = False
        self._skipped_meanwhile = 0  # since the checkpoint being written was sent

    async def __aenter__(self) -> Self:
        self._send, self._receive = create_memory_object_stream[Snapshot](1)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._send.aclose()

    async def offer(self, take: Callable[[], Awaitable[Snapshot]]) -> None:
        """Send the snapshot that ``take`` returns, or skip it if the previous one is still being written."""
        if not self._writing:
            await self.send(await take())
            return
        if self._skipped_meanwhile == 0:
            _log.warning(
                "checkpoint_skipped_slow_disk",
                path=str(self._folder),
                reason="the previous checkpoint is still being written",
                consequence="checkpoints are skipped until it is written; training and publishing continue",
            )
        self.skipped += 1
        self._skipped_meanwhile += 1

    async def send(self, snapshot: Snapshot) -> None:
        """Queue a checkpoint behind the one being written, if any; the queue holds one."""
        self._writing = True
        await self._send.send(snapshot)

    async def run(self) -> None:
        """Write every checkpoint sent until the writer's block has ended."""
        async with self._receive:
            async for snapshot in self._receive:
                await self._write(snapshot)
                self._writing, self._skipped_meanwhile = False, 0

    async def _write(self, snapshot: Snapshot) -> None:
        """Write a checkpoint; one that cannot be written is logged, and the previous one stays."""
        began_s = time.monotonic()
        try:
            place = await to_thread.run_sync(save_checkpoint, self._folder, snapshot)
        except OSError as error:
            _log.error(
                "checkpoint_failed",
                path=str(self._folder),
                reason=error.strerror,
                consequence="the last good checkpoint stays, training goes on",
                skipped=self._skipped_meanwhile,
            )
        else:
            _log.info(
                "checkpoint_saved",
                path=str(place),
                size_bytes=len(snapshot.data),
                duration_s=round(time.monotonic() - began_s, 3),
                skipped=self._skipped_meanwhile,
            )


def take_snapshot(learner: Learner, network: str, spec: ReplaySpec) -> Snapshot:
    """Copy the learner's state; blocks. No update may run meanwhile."""
    data = safetensors.torch.save(dict(_tensors(learner)))
    description = Checkpoint(FORMAT, network, spec, learner.updates, sha256="")
    return Snapshot(replace(description, sha256=_digest(description, data)), data)


def save_checkpoint(folder: Path, snapshot: Snapshot) -> Path:
    """Write a checkpoint, then remove all but one of the older ones; blocks.

    Raises:
        OSError: the disk is full or the folder cannot be written; earlier checkpoints are untouched.
    """
    place = folder / f"{snapshot.description.updates:012d}"
    partial = folder / f".{place.name}.{os.getpid()}"
    try:
        shutil.rmtree(partial, ignore_errors=True)  # left by a killed process that had this id, as in a container
        partial.mkdir(parents=True)
        _write_file(partial / TENSORS, snapshot.data)
        _write_file(partial / DESCRIPTION, orjson.dumps(asdict(snapshot.description), option=orjson.OPT_INDENT_2))
        if place.exists():  # saved before with the same count of updates
            shutil.rmtree(place)
        partial.rename(place)
    except OSError:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    older = [other for other in _finished(folder) if other < place]  # a newer one is broken, else it had been loaded
    for old in older[KEPT - 1 :]:
        shutil.rmtree(old, ignore_errors=True)
    return place


def load_checkpoint(folder: Path, learner: Learner, network: str, spec: ReplaySpec) -> bool:
    """Load the newest whole checkpoint into ``learner`` and remove partial ones; blocks.

    Returns:
        Whether there was a whole checkpoint; if not, ``learner`` is unchanged.

    Raises:
        MismatchError: the checkpoint belongs to another game, network or shape.
    """
    _remove_partial(folder)
    for place in _finished(folder):
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
            raise MismatchError(
                f"checkpoint {place} is of another {network} network: {reason}; learning does not start"
            ) from None
        learner.updates = description.updates
        return True
    return False


def _remove_partial(folder: Path) -> None:
    for partial in folder.glob(".*"):
        if _PARTIAL.fullmatch(partial.name):
            shutil.rmtree(partial, ignore_errors=True)


def _finished(folder: Path) -> list[Path]:
    """Return the finished checkpoints, newest first."""
    if not folder.is_dir():
        return []
    return sorted((place for place in folder.iterdir() if _FINISHED.fullmatch(place.name)), reverse=True)


def _read(place: Path) -> tuple[Checkpoint, dict[str, Tensor]] | None:
    """Read one checkpoint; if it is broken, log a warning and return None."""
    try:
        description = _ADAPTER.validate_json(_read_bytes(place / DESCRIPTION, _MAX_DESCRIPTION_BYTES))
        data = _read_bytes(place / TENSORS, _MAX_TENSOR_BYTES)
        if _digest(description, data) != description.sha256:
            raise ValueError("its SHA-256 does not match its content")  # noqa: TRY301  # logged below with the others
        return description, safetensors.torch.load(data)  # its own format, without pickle: numbers and shapes alone
    except (OSError, ValueError, SettingsError, SafetensorError) as error:
        _log.warning("checkpoint_skipped", path=str(place), reason=str(error).splitlines()[0])
        return None


def _digest(description: Checkpoint, data: bytes) -> str:
    return hashlib.sha256(orjson.dumps(asdict(replace(description, sha256=""))) + data).hexdigest()


def _read_bytes(path: Path, limit: int) -> bytes:
    if (size := path.stat().st_size) > limit:
        raise ValueError(f"{path.name} has {size:,} bytes, expected at most {limit:,}")
    return path.read_bytes()


def _write_file(path: Path, data: bytes) -> None:
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
    def section(prefix: str) -> dict[str, Tensor]:
        return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}

    learner.online.load_state_dict(section("online."))
    learner.target.load_state_dict(section("target."))
    optimizer = learner.optimizer.state_dict()
    state: dict[int, dict[str, Tensor]] = {}
    parameters = list(learner.online.parameters())
    for name, tensor in section("adam.").items():
        index, _, field = name.partition(".")
        parameter = parameters[int(index)]
        # the fused optimiser walks raw memory, so moments need the memory layout of their parameter
        alike = torch.empty_like(parameter).copy_(tensor) if tensor.shape == parameter.shape else tensor
        state.setdefault(int(index), {})[field] = alike
    learner.optimizer.load_state_dict({**optimizer, "state": state})
