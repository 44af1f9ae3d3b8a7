import orjson
import pytest

from borgcore.eventlog.publisher import encode_event
from borgmonitor.nodes import Reply
from borgmonitor.sample import sample_of
from tests.unit.borgmonitor.replies import INFO, NODE, replay, reply

# Names and units as redis_exporter has them; the rest is this monitor's own, each name with its unit at the end.
EXPECTED = {
    "node": "10.0.0.1:6379",
    "server": "Valkey",
    "server_version": "9.1.2",
    "polls_missed": 3,
    "redis_uptime_in_seconds": 77,
    "redis_connected_clients": 5,
    "redis_blocked_clients": 2,
    "redis_memory_used_bytes": 1_000_000,
    "redis_memory_used_rss_bytes": 1_200_000,
    "redis_memory_used_peak_bytes": 1_100_000,
    "redis_memory_used_dataset_bytes": 900_000,
    "redis_memory_max_bytes": 4_000_000,
    "redis_mem_fragmentation_ratio": 1.2,
    "redis_commands_processed_total": 1_234,
    "redis_instantaneous_ops_per_sec": 56,
    "redis_net_input_bytes_total": 7_000,
    "redis_net_output_bytes_total": 8_000,
    "redis_rejected_connections_total": 1,
    "redis_evicted_keys_total": 3,
    "redis_latest_fork_seconds": 0.0015,
    "redis_rdb_bgsave_in_progress": 0,
    "redis_rdb_last_bgsave_status": 1,
    "redis_rdb_changes_since_last_save": 9,
    "redis_aof_enabled": 1,
    "redis_aof_rewrite_in_progress": 1,
    "redis_aof_last_bgrewrite_status": 0,
    "redis_aof_last_write_status": 1,
    "redis_aof_current_size_bytes": 4_096,
    "redis_aof_delayed_fsync": 4,
    "fcall_calls_total": 100,
    "fcall_calls_per_s": 30.0,
    "fcall_mean_us": 50.0,
    "fcall_p50_us": 40.0,
    "fcall_p99_us": 400.0,
    "replay_agents": 2,
    "replay_transitions": 500,
    "replay_capacity_transitions": 1_000,
    "replay_bytes": 250_000,
    "replay_bytes_per_transition": 500.0,
    "replay_inserted_total": 500,
    "replay_sampled_total": 2_000,
    "replay_inserts_per_s": 50.0,
    "replay_samples_per_s": 400.0,
    "replay_samples_per_insert": 4.0,
}


def before(**changed: object) -> Reply:
    """Two seconds earlier."""
    return reply(8.0, replay(400, 1_200), **{"cmdstat_fcall": {"calls": 40, "usec": 2_000}, **changed})


def test_a_sample_has_the_names_and_units_of_the_reference_list() -> None:
    event = sample_of(NODE, reply(10.0, replay()), before(), polls_missed=3)
    document = orjson.loads(encode_event(event, "r"))
    envelope = {"@timestamp", "event_id", "event", "schema", "run"}
    assert {name: value for name, value in document.items() if name not in envelope} == EXPECTED
    assert document["event"] == "memory_sampled"


def test_what_a_server_does_not_tell_is_left_out() -> None:
    event = sample_of(NODE, Reply({"redis_version": "7.0.15", "used_memory": 5}, None, 1.0), None, 0)
    assert event.model_dump(exclude_none=True) == {
        "node": NODE,
        "server": "Redis",
        "server_version": "7.0.15",
        "polls_missed": 0,
        "redis_memory_used_bytes": 5,
        "fcall_calls_total": 0,
    }


def test_the_first_sample_has_no_rates() -> None:
    event = sample_of(NODE, reply(10.0, replay()), None, 0)
    rates = [name for name, value in event.model_dump().items() if name.endswith("_per_s") and value is not None]
    assert rates == []
    assert event.fcall_mean_us is None


def test_counters_of_a_restarted_server_are_not_compared() -> None:
    event = sample_of(NODE, reply(10.0, replay(390, 1_100), run_id="b2"), before(), 0)
    assert event.fcall_calls_total == 100
    assert (event.fcall_calls_per_s, event.fcall_mean_us) == (None, None)
    assert (event.replay_inserts_per_s, event.replay_samples_per_s) == (None, None)


def test_counters_that_were_reset_in_the_same_server_give_no_negative_rate() -> None:
    event = sample_of(NODE, reply(10.0, replay(), cmdstat_fcall={"calls": 1, "usec": 9}), before(), 0)
    assert (event.fcall_calls_per_s, event.fcall_mean_us) == (None, None)
    assert event.replay_inserts_per_s == pytest.approx(50.0)


def test_a_period_without_calls_has_a_rate_of_none_and_no_mean() -> None:
    event = sample_of(NODE, reply(10.0), before(cmdstat_fcall=INFO["cmdstat_fcall"]), 0)
    assert event.fcall_calls_per_s == 0
    assert event.fcall_mean_us is None
