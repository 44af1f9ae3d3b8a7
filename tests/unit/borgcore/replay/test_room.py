import pytest

from borgcore.errors import SettingsError
from borgcore.replay.room import check_room

HALF = {"maxmemory": 2_000_000, "maxmemory_policy": "noeviction"}


def test_a_capacity_that_needs_more_than_half_of_maxmemory_is_refused_naming_both() -> None:
    check_room(HALF, 1_000, 1_000.0, "here:1")
    with pytest.raises(SettingsError) as refusal:
        check_room(HALF, 1_001, 1_000.0, "here:1")
    assert str(refusal.value) == (
        "replay capacity: 1001 transitions of about 1000 bytes need 1001000 bytes, more than half of the maxmemory of "
        "2000000 bytes of Redis at here:1 (a fork copies on write); at most 1000 fit"
    )


def test_a_server_that_would_evict_transitions_is_refused() -> None:
    with pytest.raises(SettingsError, match="maxmemory-policy allkeys-lru, which would evict"):
        check_room(HALF | {"maxmemory_policy": "allkeys-lru"}, 1, 1.0, "here:1")


def test_without_maxmemory_anything_fits() -> None:
    check_room({"maxmemory": 0, "maxmemory_policy": "allkeys-lru"}, 10**9, 1e6, "here:1")
