"""The events of the topic memory_monitoring: the memory's health, and that of the event log itself."""

from borgcore.events.schema import Event


class EventsDropped(Event):
    """Events were lost: dropped during an outage of the log, or trimmed from a stream before anyone read them."""

    topic = "memory_monitoring"
    name = "events_dropped"

    service: str
    """Service that reports it."""
    agent: int | None = None
    """Number of the agent, if an agent reports it."""
    dropped: int
    """Events lost."""
    dropped_topic: str | None = None
    """Topic of the events, if all are of one."""
    outage_s: float | None = None
    """How long the log was unavailable, seconds."""
    reason: str
    """buffer_full or stream_trimmed."""


class ShipperReported(Event):
    """A logshipper, every ten seconds; counters are since its process began."""

    topic = "memory_monitoring"
    name = "shipper_reported"

    shipper: str
    """Name of the replica."""
    lag: int
    """Records in the log that are not yet in the store."""
    shipped: int
    """Documents indexed, including those that were there already."""
    repeated: int
    """Documents that were there already."""
    dead_letters: int
    """Records that went to dead_letter."""
    retried: int
    """Items sent again."""


class MemorySampled(Event):
    """One server, once a period, and on the server that holds it the replay memory.

    What begins with ``redis_`` has the name and unit of redis_exporter's metric (github.com/oliver006/redis_exporter,
    exporter/exporter.go: metricMapGauges and metricMapCounters); a status is 1 for ok and 0 for err, as there. Only
    redis_instantaneous_ops_per_sec is none of its metrics, but INFO's field under its prefix. Server counters begin
    anew when the server does. What a server's version does not tell is absent; so is ``replay_`` where the memory is
    not.
    """

    topic = "memory_monitoring"
    name = "memory_sampled"

    node: str
    """Address of the server; of a cluster's node, as the cluster names it."""
    server: str
    """Redis or Valkey."""
    server_version: str
    """Version of the server."""
    polls_missed: int
    """Polls skipped since the monitor started because the previous one took longer than the period."""
    redis_uptime_in_seconds: int | None = None
    """Time since the server began, seconds."""
    redis_connected_clients: int | None = None
    """Connections of clients, without those of replicas."""
    redis_blocked_clients: int | None = None
    """Clients that wait in a blocking command."""
    redis_memory_used_bytes: int | None = None
    """Bytes allocated, data and overhead."""
    redis_memory_used_rss_bytes: int | None = None
    """Resident memory of the server's process, bytes."""
    redis_memory_used_peak_bytes: int | None = None
    """Most bytes allocated since the server began."""
    redis_memory_used_dataset_bytes: int | None = None
    """Bytes of the data itself, without overhead."""
    redis_memory_max_bytes: int | None = None
    """Limit that maxmemory sets, bytes; 0 is no limit."""
    redis_mem_fragmentation_ratio: float | None = None
    """Bytes of the process per byte allocated."""
    redis_commands_processed_total: int | None = None
    """Commands processed."""
    redis_instantaneous_ops_per_sec: int | None = None
    """Commands per second, as the server itself measures over a moment."""
    redis_net_input_bytes_total: int | None = None
    """Bytes read from the network."""
    redis_net_output_bytes_total: int | None = None
    """Bytes written to the network."""
    redis_rejected_connections_total: int | None = None
    """Connections rejected because of maxclients."""
    redis_evicted_keys_total: int | None = None
    """Keys evicted because of maxmemory."""
    redis_latest_fork_seconds: float | None = None
    """How long the newest fork took, seconds; 0 before the first."""
    redis_rdb_bgsave_in_progress: int | None = None
    """1 while a dump is written in the background, else 0."""
    redis_rdb_last_bgsave_status: int | None = None
    """Status of the newest dump in the background, 1 or 0."""
    redis_rdb_changes_since_last_save: int | None = None
    """Changes of the data since the last dump."""
    redis_aof_enabled: int | None = None
    """1 if the append-only file is on, else 0."""
    redis_aof_rewrite_in_progress: int | None = None
    """1 while the append-only file is rewritten, else 0."""
    redis_aof_last_bgrewrite_status: int | None = None
    """Status of the newest rewrite of the append-only file, 1 or 0."""
    redis_aof_last_write_status: int | None = None
    """Status of the newest write to the append-only file, 1 or 0."""
    redis_aof_current_size_bytes: int | None = None
    """Bytes of the append-only file; absent if it is off."""
    redis_aof_delayed_fsync: int | None = None
    """Writes that had to wait for the disk since the server started; absent if the append-only file is off."""
    fcall_calls_total: int | None = None
    """Calls of server-side functions, not only the replay memory's: a server counts them together."""
    fcall_calls_per_s: float | None = None
    """Calls of server-side functions per second since the sample before."""
    fcall_mean_us: float | None = None
    """Mean time of those calls inside the server since the last sample, microseconds; absent without calls."""
    fcall_p50_us: float | None = None
    """Median since the server began, microseconds."""
    fcall_p99_us: float | None = None
    """99th percentile since the server began, microseconds."""
    replay_agents: int | None = None
    """Agents that are alive, that is, hold a lease; counted up to 64."""
    replay_transitions: int | None = None
    """Transitions stored."""
    replay_capacity_transitions: int | None = None
    """Capacity of the memory, transitions."""
    replay_bytes: int | None = None
    """Bytes of transitions and priorities, estimated by MEMORY USAGE to about 1 %."""
    replay_bytes_per_transition: float | None = None
    """Bytes of one stored transition with its priority; 0 while the memory is empty."""
    replay_inserted_total: int | None = None
    """Transitions ever stored, over all agents."""
    replay_sampled_total: int | None = None
    """Samples ever drawn, over all agents."""
    replay_inserts_per_s: float | None = None
    """Transitions stored per second since the sample before."""
    replay_samples_per_s: float | None = None
    """Samples drawn per second since the sample before."""
    replay_samples_per_insert: float | None = None
    """Samples drawn per transition stored, over all time."""


class MemoryWarned(Event):
    """Something about a server or the replay memory needs attention, or no longer does."""

    topic = "memory_monitoring"
    name = "memory_warned"

    node: str
    """Address of the server."""
    kind: str
    """server_lost, keys_evicted, memory_high, bgsave_failed, aof_rewrite_failed, aof_write_failed, inserts_stalled or
    replay_unreadable."""
    state: str
    """onset or clear."""
    text: str
    """What was seen, in one line; at its end, what it had been."""
    value: float | None = None
    """What was measured at the onset, where it is a number: keys, bytes or seconds, as the kind says."""
    limit: float | None = None
    """What it was measured against, in the same unit."""
    duration_s: float | None = None
    """At its end, how long it lasted, seconds."""
