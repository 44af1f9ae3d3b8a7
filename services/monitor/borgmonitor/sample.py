"""Turn a server's reply into the event memory_sampled."""

from collections.abc import Mapping
from typing import Any

from borgcore.events.monitoring import MemorySampled
from borgmonitor.nodes import ReplayState, Reply

_FIELDS = {
    "uptime_in_seconds": "redis_uptime_in_seconds",
    "connected_clients": "redis_connected_clients",
    "blocked_clients": "redis_blocked_clients",
    "used_memory": "redis_memory_used_bytes",
    "used_memory_rss": "redis_memory_used_rss_bytes",
    "used_memory_peak": "redis_memory_used_peak_bytes",
    "used_memory_dataset": "redis_memory_used_dataset_bytes",
    "maxmemory": "redis_memory_max_bytes",
    "mem_fragmentation_ratio": "redis_mem_fragmentation_ratio",
    "total_commands_processed": "redis_commands_processed_total",
    "instantaneous_ops_per_sec": "redis_instantaneous_ops_per_sec",
    "total_net_input_bytes": "redis_net_input_bytes_total",
    "total_net_output_bytes": "redis_net_output_bytes_total",
    "rejected_connections": "redis_rejected_connections_total",
    "evicted_keys": "redis_evicted_keys_total",
    "rdb_bgsave_in_progress": "redis_rdb_bgsave_in_progress",
    "rdb_last_bgsave_status": "redis_rdb_last_bgsave_status",
    "rdb_changes_since_last_save": "redis_rdb_changes_since_last_save",
    "aof_enabled": "redis_aof_enabled",
    "aof_rewrite_in_progress": "redis_aof_rewrite_in_progress",
    "aof_last_bgrewrite_status": "redis_aof_last_bgrewrite_status",
    "aof_last_write_status": "redis_aof_last_write_status",
    "aof_current_size": "redis_aof_current_size_bytes",
    "aof_delayed_fsync": "redis_aof_delayed_fsync",
}
_STATUS = {"ok": 1, "err": 0}


def sample_of(node: str, reply: Reply, before: Reply | None, polls_missed: int) -> MemorySampled:
    """Make the sample of one server; rates are over the time since its previous reply, ``before``."""
    info = reply.info
    values: dict[str, Any] = {field: _number(info.get(name)) for name, field in _FIELDS.items()}
    fork_us = _number(info.get("latest_fork_usec"))
    values["redis_latest_fork_seconds"] = None if fork_us is None else fork_us / 1e6
    same = before if before is not None and before.info.get("run_id") == info.get("run_id") else None
    values |= _calls(reply, same)
    if reply.replay is not None:
        values |= _replay(reply.replay, reply, before)
    return MemorySampled(
        node=node,
        server="Valkey" if "valkey_version" in info else "Redis",
        server_version=str(info.get("valkey_version") or info.get("redis_version", "unknown")),
        polls_missed=polls_missed,
        **values,
    )


def _calls(reply: Reply, before: Reply | None) -> dict[str, Any]:
    """Read the counters of server-side functions; a server that has run none omits them."""
    now, then = _stats(reply.info), _stats(before.info) if before is not None else {}
    calls = int(now.get("calls", 0))
    values: dict[str, Any] = {"fcall_calls_total": calls}
    if before is not None:
        more, took_us = calls - int(then.get("calls", 0)), int(now.get("usec", 0)) - int(then.get("usec", 0))
        values["fcall_calls_per_s"] = _rate(more, reply, before)
        values["fcall_mean_us"] = took_us / more if more > 0 and took_us >= 0 else None
    percentiles = reply.info.get("latency_percentiles_usec_fcall")
    if isinstance(percentiles, dict):
        values |= {"fcall_p50_us": percentiles.get("p50"), "fcall_p99_us": percentiles.get("p99")}
    return values


def _stats(info: Mapping[str, Any]) -> Mapping[str, Any]:
    found = info.get("cmdstat_fcall")
    return found if isinstance(found, dict) else {}


def _replay(replay: ReplayState, reply: Reply, before: Reply | None) -> dict[str, Any]:
    stats = replay.stats
    if stats is None:
        return {"replay_agents": replay.agents}
    then = before.replay.stats if before is not None and before.replay is not None else None
    values: dict[str, Any] = {
        "replay_agents": replay.agents,
        "replay_transitions": stats.size,
        "replay_capacity_transitions": stats.capacity,
        "replay_bytes": stats.bytes,
        "replay_bytes_per_transition": stats.bytes_per_transition,
        "replay_inserted_total": stats.inserted,
        "replay_sampled_total": stats.sampled,
        "replay_samples_per_insert": stats.samples_per_insert,
    }
    if before is not None and then is not None:
        values["replay_inserts_per_s"] = _rate(stats.inserted - then.inserted, reply, before)
        values["replay_samples_per_s"] = _rate(stats.sampled - then.sampled, reply, before)
    return values


def _rate(more: int, reply: Reply, before: Reply) -> float | None:
    """Return the rate per second, or None if the counter was reset."""
    return more / max(reply.at_s - before.at_s, 1e-9) if more >= 0 else None


def _number(value: object) -> float | int | None:
    if isinstance(value, str):
        return _STATUS.get(value)
    return value if isinstance(value, int | float) else None
