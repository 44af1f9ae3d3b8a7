"""A replica's name: the host's name and the lowest number that no other process on this machine holds.

The name stays the same across a restart, so the log recognizes the replica at once. The kernel frees the number when
the process ends, even by SIGKILL.
"""

import fcntl
import os
import re
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from borgcore.errors import BorgError

MAX_REPLICAS = 64  # on one machine


@contextmanager
def claim_name(group: str) -> Iterator[str]:
    """Hold a name within the block.

    Raises:
        BorgError: all names are taken, or the lock files cannot be created.
    """
    host = re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname())[:60] or "host"
    for number in range(1, MAX_REPLICAS + 1):
        path = Path(tempfile.gettempdir()) / f"borg-logshipper-{os.getuid()}-{group}-{number}.lock"
        try:
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise BorgError(f"cannot open {path}: {error.strerror}; give this replica a name by --member") from None
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            continue
        try:
            yield f"{host}-{number}"
        finally:
            os.close(file)
        return
    raise BorgError(f"{MAX_REPLICAS} logshippers of group {group} run here already; nothing was started")
