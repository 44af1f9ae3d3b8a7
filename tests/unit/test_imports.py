import subprocess
import sys

import pytest

from tests.limits import HANG_S

REPLAY = ["betterproto2", "google.protobuf", "numpy", "safetensors", "zstandard"]
HEAVY = ["torch", "gymnasium", "ale_py", *REPLAY]


@pytest.mark.parametrize("module", ["borgmonitor.main", "borglogshipper.main", "borgsetup.main"])
def test_a_service_without_a_replay_memory_imports_nothing_of_it(module: str) -> None:
    code = f"import sys, {module}; print(*[name for name in {HEAVY!r} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=HANG_S)
    assert found.stdout.split() == []


@pytest.mark.parametrize(
    ("imports", "absent"),
    [
        ("borgagent.dqn.learner", "redis anyio aiokafka"),
        ("borgcore.events.schema", "aiokafka redis"),
        ("borgcore.replay.transitions", "redis"),
        ("borgcore.events.topics", "pydantic"),
        ("borgcore.run.keys", "numpy"),
        ("borgcore.run.stats", "numpy"),
        ("borgcore.connection.retry", "redis"),
        ("borgcore.eventlog.open", "aiokafka"),
        ("borgcore.replay.client", "aiokafka aiohttp prometheus_client pydantic_settings"),
        ("borgcli.main", "torch gymnasium numpy redis anyio structlog pydantic"),  # borg --help is quick
    ],
)
def test_a_module_loads_without_what_only_others_need(imports: str, absent: str) -> None:
    code = f"import sys, {imports}; print(*[name for name in {absent.split()!r} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=HANG_S)
    assert found.stdout.split() == []
