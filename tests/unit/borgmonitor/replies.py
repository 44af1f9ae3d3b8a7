"""Answers as redis-py gives them, and the event they make."""

from typing import Any

from borgcore.events.monitoring import MemorySampled
from borgcore.run.stats import ReplayStats
from borgmonitor.nodes import ReplayState, Reply
from borgmonitor.sample import sample_of

NODE = "10.0.0.1:6379"
INFO: dict[str, Any] = {
    "redis_version": "7.2.4",
    "valkey_version": "9.1.2",
    "run_id": "a1",
    "uptime_in_seconds": 77,
    "connected_clients": 5,
    "blocked_clients": 2,
    "used_memory": 1_000_000,
    "used_memory_rss": 1_200_000,
    "used_memory_peak": 1_100_000,
    "used_memory_dataset": 900_000,
    "maxmemory": 4_000_000,
    "mem_fragmentation_ratio": 1.2,
    "total_commands_processed": 1_234,
    "instantaneous_ops_per_sec": 56,
    "total_net_input_bytes": 7_000,
    "total_net_output_bytes": 8_000,
    "rejected_connections": 1,
    "evicted_keys": 3,
    "latest_fork_usec": 1_500,
    "rdb_bgsave_in_progress": 0,
    "rdb_last_bgsave_status": "ok",
    "rdb_changes_since_last_save": 9,
    "aof_enabled": 1,
    "aof_rewrite_in_progress": 1,
    "aof_last_bgrewrite_status": "err",
    "aof_last_write_status": "ok",
    "aof_current_size": 4_096,
    "aof_delayed_fsync": 4,
    "cmdstat_fcall": {"calls": 100, "usec": 5_000, "usec_per_call": 50.0, "rejected_calls": 0, "failed_calls": 0},
    "latency_percentiles_usec_fcall": {"p50": 40.0, "p99": 400.0, "p99.9": 900.0},
}


def replay(inserted: int = 500, sampled: int = 2_000, agents: int = 2) -> ReplayState:
    return ReplayState(agents, ReplayStats(500, 1_000, inserted, sampled, 250_000, 4_000_000, 1_000_000))


def reply(at_s: float = 10.0, memory: ReplayState | None = None, **changed: Any) -> Reply:
    return Reply(INFO | changed, memory, at_s)


def sample(memory: ReplayState | None = None, **changed: Any) -> MemorySampled:
    return sample_of(NODE, reply(memory=memory, **changed), None, 0)
