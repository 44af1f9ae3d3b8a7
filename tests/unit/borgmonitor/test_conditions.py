from typing import Any

import pytest

from borgmonitor.conditions import InsertWatch, conditions_of
from borgmonitor.nodes import ReplayState
from tests.unit.borgmonitor.replies import replay, sample

QUIET: dict[str, Any] = {"aof_last_bgrewrite_status": "ok"}


def test_a_healthy_server_gives_no_warning() -> None:
    assert list(conditions_of(sample(**QUIET), evicted_before=3)) == []


def test_evictions_count_since_the_sample_before() -> None:
    (found,) = conditions_of(sample(**QUIET, evicted_keys=15), evicted_before=3)
    assert (found.kind, found.value, found.limit) == ("keys_evicted", 12, 0)
    assert found.text == "the server evicted 12 keys since the previous sample; expected maxmemory-policy noeviction"


@pytest.mark.parametrize("before", [None, 15])
def test_evictions_of_the_past_are_none_now(before: int | None) -> None:
    assert list(conditions_of(sample(**QUIET, evicted_keys=15), before)) == []


def test_memory_is_high_above_90_percent_of_maxmemory() -> None:
    assert list(conditions_of(sample(**QUIET, used_memory=900, maxmemory=1_000), None)) == []
    (found,) = conditions_of(sample(**QUIET, used_memory=901, maxmemory=1_000), None)
    assert (found.kind, found.value, found.limit) == ("memory_high", 901, 900)
    assert found.text == "901 bytes are in use, 90% of maxmemory (1000); expected at most 90%"


def test_without_maxmemory_no_use_is_high() -> None:
    assert list(conditions_of(sample(**QUIET, used_memory=1 << 40, maxmemory=0), None)) == []


@pytest.mark.parametrize(
    ("field", "kind", "text"),
    [
        ("rdb_last_bgsave_status", "bgsave_failed", "the last background save failed; the server's log says why"),
        (
            "aof_last_bgrewrite_status",
            "aof_rewrite_failed",
            "the last rewrite of the append-only file failed; the server's log says why",
        ),
        (
            "aof_last_write_status",
            "aof_write_failed",
            "the last write to the append-only file failed; the server's log says why",
        ),
    ],
)
def test_each_kind_of_failed_write_is_named(field: str, kind: str, text: str) -> None:
    (found,) = conditions_of(sample(**{**QUIET, field: "err"}), None)
    assert (found.kind, found.text) == (kind, text)


def test_inserts_stall_when_none_came_for_so_long_and_agents_are_alive() -> None:
    watch = InsertWatch(stall_s=30.0)
    assert watch.look(replay(500), 100.0) is None
    assert watch.look(replay(500), 129.9) is None
    found = watch.look(replay(500), 134.0)
    assert found is not None
    assert (found.kind, found.value, found.limit) == ("inserts_stalled", 34.0, 30.0)
    assert found.text == "no transition was stored for 34 s; agents alive: 2"
    assert watch.look(replay(501), 135.0) is None


def test_inserts_do_not_stall_where_no_agent_is_alive_nor_while_agents_start() -> None:
    watch = InsertWatch(stall_s=30.0)
    for at_s in (0.0, 50.0, 100.0):
        assert watch.look(replay(500, agents=0), at_s) is None
    assert watch.look(replay(500), 101.0) is None
    assert watch.look(replay(500), 130.0) is None


@pytest.mark.parametrize("gone", [None, ReplayState(agents=2)])
def test_a_memory_out_of_sight_begins_anew(gone: ReplayState | None) -> None:
    watch = InsertWatch(stall_s=30.0)
    assert watch.look(replay(500), 0.0) is None
    assert watch.look(gone, 20.0) is None
    assert watch.look(replay(500), 40.0) is None
    assert watch.look(replay(500), 69.0) is None
    assert watch.look(replay(500), 70.0) is not None
