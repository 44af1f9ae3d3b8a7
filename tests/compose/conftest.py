import os
import shutil
import uuid
from collections.abc import Iterator

import pytest

from tests.compose.stack import Stack
from tests.ports import free_port

LABEL = "label=com.docker.compose.project"
ADVICE = "TEST_BORG_COMPOSE to official (Docker pulls the images) or standins (tests/compose/standins.sh built them)"


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """The full stack, up; in the end nothing of it may be left."""
    kind = os.environ.get("TEST_BORG_COMPOSE")
    if kind not in {"official", "standins"}:
        pytest.skip(f"no full stack: set {ADVICE}; it takes ten minutes")
    if shutil.which("docker") is None:
        pytest.skip("no full stack: Docker is not installed")
    ports = {name: free_port() for name in ("KIBANA_PORT", "ELASTICSEARCH_PORT", "REDIS_PORT")}
    stack = Stack(f"borgtest{uuid.uuid4().hex[:8]}", kind == "standins", ports)
    try:
        stack.up()
        yield stack
    finally:
        stack.compose("--profile", "*", "down", "--volumes", "--remove-orphans")
    kinds = (("ps", "--all"), ("volume", "ls"), ("network", "ls"))
    left = {kind[0]: stack.docker(*kind, "--quiet", "--filter", f"{LABEL}={stack.project}") for kind in kinds}
    assert set(left.values()) == {""}, left
