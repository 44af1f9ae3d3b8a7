"""Cores, memory and GPU of this machine, or of the container around us."""

import os
import subprocess
import sys
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
_GPUS = (Path("/dev/nvidiactl"), Path("/dev/dxg"))  # Linux; WSL
_ASK_TORCH = "import sys, torch; sys.exit(not torch.cuda.is_available())"
_TORCH_S = 120.0  # to load torch from a slow disk


def count_cores() -> int:
    """Return the number of cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def has_cuda(gpus: tuple[Path, ...] = _GPUS) -> bool:
    """Return whether agents will train on CUDA; if there is a GPU, torch is asked in a separate process."""
    if os.environ.get("BORG_AGENT_DEVICE") == "cpu" or not any(gpu.exists() for gpu in gpus):
        return False
    try:
        subprocess.run([sys.executable, "-P", "-c", _ASK_TORCH], check=True, capture_output=True, timeout=_TORCH_S)
    except subprocess.SubprocessError:
        return False
    return True


def read_memory_bytes(cgroups: Path = CGROUPS, own: Path = Path("/proc/self/cgroup")) -> int:
    """Return the machine's memory in bytes, or our cgroup's limit if that is smaller."""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min([total, *_read_limits(cgroups, own)])


def _read_limits(cgroups: Path, own: Path) -> list[int]:
    """Return the limits of our cgroup and its ancestors (version 2) and of the root (version 1)."""
    paths = [cgroups / "memory.max", cgroups / "memory" / "memory.limit_in_bytes"]
    try:
        names = [line.split("::", 1)[1] for line in own.read_text().splitlines() if line.startswith("0::")]
    except OSError:
        names = []
    for name in names:
        group = cgroups / name.strip("/")
        paths += [folder / "memory.max" for folder in (group, *group.parents) if folder.is_relative_to(cgroups)]
    return [limit for limit in map(_read_limit, paths) if limit is not None]


def _read_limit(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):  # absent, or the word "max"
        return None
