import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from time import time

import pytest

from tests.limits import HANG_S

from .process import Borg, Start
from .programs import AGENT, BORG, DRIVER

# On a busy machine a living agent, or its server, may be silent for seconds.
PATIENT = {
    "BORG_AGENT_LEASE_S": "15",
    "BORG_REDIS_OUTAGE_S": str(HANG_S),
    "BORG_AGENT_REPLAY__PUSH_TIMEOUT_S": str(HANG_S),
    "BORG_AGENT_REPLAY__SAMPLE_TIMEOUT_S": str(HANG_S),
}


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    started: list[subprocess.Popen[str]] = []
    (tmp_path / "driver.py").write_text(DRIVER)

    def begin(agent: str | None, *arguments: str, run: str = "one", wrapper: tuple[str, ...] = (), **env: str) -> Borg:
        (tmp_path / "agent.py").write_text(AGENT + (agent or ""))
        program = ["-c", BORG] if agent is None else ["driver.py", "agent.py"]
        command = [*wrapper, sys.executable, *program, "up", "--run", run, *arguments]
        output, began_s = tmp_path / "output", time()
        with output.open("w") as file:
            process = subprocess.Popen(
                command,
                cwd=tmp_path,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
                env={**os.environ, **PATIENT, **env},
            )
        output.rename(tmp_path / f"output-{process.pid}")
        started.append(process)
        return Borg(process, tmp_path / "runs", run, began_s)

    yield begin
    for process in started:
        if process.poll() is None:
            process.kill()
        process.wait()
