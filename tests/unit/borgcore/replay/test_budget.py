import pytest
from structlog.testing import capture_logs

from borgcore.errors import SettingsError
from borgcore.replay.budget import MemoryBudget, estimated_bytes
from borgcore.replay.transitions import ReplaySpec

HALF = MemoryBudget(2_000_000, "noeviction", "here:1")


def test_a_new_memory_that_needs_more_than_half_of_maxmemory_is_refused_naming_both() -> None:
    HALF.check(1_000, 1_000.0)
    with pytest.raises(SettingsError) as refusal:
        HALF.check(1_001, 1_000.0)
    assert str(refusal.value) == (
        "replay capacity: 1001 transitions of about 1000 bytes need 1001000 bytes, more than half of the maxmemory of "
        "2000000 bytes of Redis at here:1 (a fork copies on write); at most 1000 fit"
    )


def test_a_memory_in_use_that_needs_more_than_half_of_maxmemory_is_a_warning_with_its_measure() -> None:
    with capture_logs() as logs:
        HALF.warn(1_000, 1_000.0)
    assert logs == []
    with capture_logs() as logs:
        HALF.warn(1_001, 1_000.4)
    assert logs == [
        {
            "event": "replay_budget_exceeded",
            "log_level": "warning",
            "address": "here:1",
            "capacity": 1_001,
            "bytes_per_transition": 1_000,
            "needed_bytes": 1_001_400,
            "maxmemory_bytes": 2_000_000,
            "consequence": "the server may run out of memory before all transitions are stored; raise its maxmemory",
        }
    ]


def test_the_estimate_is_within_a_factor_of_two_and_a_half_of_every_game_measured() -> None:
    estimate = estimated_bytes(ReplaySpec("any", stack=4, height=84, width=84, n=3, actions=18, gamma=0.99))
    measured = {"pong": 561, "seaquest": 1037, "qbert": 1725, "space_invaders": 1899, "enduro": 2775}
    assert {game: size for game, size in measured.items() if not 0.4 < estimate / size < 2.5} == {}
    assert 2 * estimate >= 0.99 * max(measured.values())  # half of maxmemory stays free, so the largest just fits


def test_a_server_that_would_evict_transitions_is_refused() -> None:
    with pytest.raises(SettingsError, match="maxmemory-policy allkeys-lru, which would evict"):
        MemoryBudget(2_000_000, "allkeys-lru", "here:1").check_policy()


def test_without_maxmemory_anything_fits() -> None:
    budget = MemoryBudget.of({"maxmemory": 0, "maxmemory_policy": "allkeys-lru"}, "here:1")
    budget.check_policy()
    budget.check(10**9, 1e6)
    with capture_logs() as logs:
        budget.warn(10**9, 1e6)
    assert logs == []


def test_the_budget_is_read_from_the_servers_answer() -> None:
    answer = {"maxmemory": 2_000_000, "maxmemory_policy": "noeviction", "used_memory": 1}
    assert MemoryBudget.of(answer, "here:1") == HALF
