from pathlib import Path

from borglocal.machine import count_cores, read_memory_bytes


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
