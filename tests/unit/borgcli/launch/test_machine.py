from pathlib import Path

import pytest

from borgcli.launch import machine
from borgcli.launch.machine import count_cores, has_cuda, read_memory_bytes


def test_a_machine_has_a_core_and_some_memory() -> None:
    assert count_cores() >= 1
    assert read_memory_bytes() > 1 << 26


def test_the_limit_of_a_cgroup_counts_where_it_is_lower(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.write_text("0::/outer/inner\n")
    (tmp_path / "outer" / "inner").mkdir(parents=True)
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "outer" / "memory.max").write_text("1048576\n")
    (tmp_path / "outer" / "inner" / "memory.max").write_text("max\n")
    assert read_memory_bytes(tmp_path, own) == 1 << 20


def test_no_cgroup_is_no_limit(tmp_path: Path) -> None:
    assert read_memory_bytes(tmp_path, tmp_path / "absent") > 1 << 26


@pytest.mark.parametrize(("program", "there"), [("", True), ("raise SystemExit(1)", False), ("import absent", False)])
def test_where_there_is_a_gpu_torch_says_whether_it_can_use_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, program: str, there: bool
) -> None:
    monkeypatch.setattr(machine, "_ASK_TORCH", program)
    monkeypatch.delenv("BORG_AGENT_DEVICE", raising=False)
    assert has_cuda((tmp_path,)) == there
    assert not has_cuda((tmp_path / "absent",))
    monkeypatch.setenv("BORG_AGENT_DEVICE", "cpu")
    assert not has_cuda((tmp_path,))


def test_a_torch_that_does_not_answer_is_no_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(machine, "_ASK_TORCH", "input()")
    monkeypatch.setattr(machine, "_TORCH_S", 0.1)
    assert not has_cuda((tmp_path,))
