import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
from testcontainers.core.docker_client import DockerClient

from tests.containers import why_missing
from tests.limits import HANG_S, LONG_TEST_TIMEOUT_S, SCRIPT_S

KILLED = """
import os, signal
from tests.containers import removing_containers, run_redis
with removing_containers(), run_redis() as server:
    print(server.container.get_container_id(), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.timeout(LONG_TEST_TIMEOUT_S)
def test_no_container_outlives_a_killed_session() -> None:
    if reason := why_missing("redis"):
        pytest.skip(f"no container to leave behind: start Docker ({reason})")
    command = [sys.executable, "-c", KILLED]
    root = Path(__file__).parents[2]
    killed = subprocess.run(command, cwd=root, stdout=subprocess.PIPE, check=False, text=True, timeout=SCRIPT_S)
    assert killed.returncode == -9
    identity = killed.stdout.strip()
    assert len(identity) == 64
    deadline = time.monotonic() + HANG_S
    with closing(DockerClient().client) as docker:
        while docker.containers.list(all=True, filters={"id": identity}):
            assert time.monotonic() < deadline
            time.sleep(0.1)
