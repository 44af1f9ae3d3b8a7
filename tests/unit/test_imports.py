import subprocess
import sys

import pytest

REPLAY = ["betterproto2", "google.protobuf", "numpy", "safetensors", "zstandard"]
HEAVY = ["torch", "gymnasium", "ale_py", *REPLAY]


@pytest.mark.parametrize("module", ["borgmonitor.main", "borglogshipper.main", "borgsetup.main"])
def test_a_service_without_a_replay_memory_imports_nothing_of_it(module: str) -> None:
    code = f"import sys, {module}; print(*[name for name in {HEAVY!r} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=30)
    assert found.stdout.split() == []
