"""The events of the topic memory_monitoring: the health of the replay memory and of the event log."""

from borgcore.events.schema import Event


class EventsDropped(Event):
    """Events were lost.

    They were dropped during an outage of the log, refused by the log for ever, or deleted from the log before they were
    read.
    """

    topic = "memory_monitoring"
    name = "events_dropped"

    service: str
    """Service that reports the loss."""
    agent: int | None = None
    """Number of the agent, if an agent reports it."""
    dropped: int
    """Events lost."""
    dropped_topic: str | None = None
    """Topic of the events, if they share one."""
    dropped_event: str | None = None
    """Name of the events, if they were refused."""
    outage_s: float | None = None
    """How long the log was unavailable, seconds."""
    reason: str
    """buffer_full, refused, stream_trimmed, deleted_unread (by retention or a person), compacted or topic_replaced."""
    first_refused: str | None = None
    """Name, event_id and size of the first refused event, and why the log can never take it."""


class ShipperReported(Event):
    """A logshipper's counters, every ten seconds; they start at 0 with its process."""

    topic = "memory_monitoring"
    name = "shipper_reported"

    shipper: str
    """Name of the replica."""
    lag: int
    """Records in the log that are not yet in the store."""
    shipped: int
    """Documents indexed, including those that already existed."""
    repeated: int
    """Documents that already existed."""
    dead_letters: int
    """Records moved to dead_letter."""
    retried: int
    """Items sent again."""
    lost: int
    """Records that the log deleted before they were read."""


class MemorySampled(Event):
    """One server, once a period, with the replay memory if this server holds it.

    Fields ``redis_*`` have the name and unit of redis_exporter's metrics (github.com/oliver006/redis_exporter,
    exporter/exporter.go: metricMapGauges and metricMapCounters), where a status is 1 for ok and 0 for err; only
    redis_instantaneous_ops_per_sec is not one of them, but a field of INFO with that prefix. Server counters restart at
    0 with the server. Fields that a server's version does not report are absent. Every ``replay_*`` is absent unless
    the server holds the memory.
    """

    topic = "memory_monitoring"
    name = "memory_sampled"

    node: str
    """Address of the server; for a node of a cluster, the one that the cluster reports."""
    server: str
    """Redis or Valkey."""
    server_version: str
    """Version of the server."""
    polls_missed: int
    """Polls skipped because the previous one took longer than the period, since the monitor started."""
    redis_uptime_in_seconds: int | None = None
    """Time since the server started, seconds."""
    redis_connected_clients: int | None = None
    """Client connections, excluding replicas."""
    redis_blocked_clients: int | None = None
    """Clients waiting in a blocking command."""
    redis_memory_used_bytes: int | None = None
    """Bytes allocated, data and overhead."""
    redis_memory_used_rss_bytes: int | None = None
    """Resident memory of the server's process, bytes."""
    redis_memory_used_peak_bytes: int | None = None
    """Most bytes allocated since the server started."""
    redis_memory_used_dataset_bytes: int | None = None
    """Bytes of the data itself, without overhead."""
    redis_memory_max_bytes: int | None = None
    """Limit set by maxmemory, bytes; 0 means no limit."""
    redis_mem_fragmentation_ratio: float | None = None
    """Resident bytes of the process per byte allocated."""
    redis_commands_processed_total: int | None = None
    """Commands processed."""
    redis_instantaneous_ops_per_sec: int | None = None
    """Commands per second, as measured by the server."""
    redis_net_input_bytes_total: int | None = None
    """Bytes read from the network."""
    redis_net_output_bytes_total: int | None = None
    """Bytes written to the network."""
    redis_rejected_connections_total: int | None = None
    """Connections rejected because of maxclients."""
    redis_evicted_keys_total: int | None = None
    """Keys evicted because of maxmemory."""
    redis_latest_fork_seconds: float | None = None
    """Duration of the newest fork, seconds; 0 before the first."""
    redis_rdb_bgsave_in_progress: int | None = None
    """1 while a background save is running, else 0."""
    redis_rdb_last_bgsave_status: int | None = None
    """Status of the newest background save, 1 or 0."""
    redis_rdb_changes_since_last_save: int | None = None
    """Changes of the data since the last save."""
    redis_aof_enabled: int | None = None
    """1 if the append-only file is on, else 0."""
    redis_aof_rewrite_in_progress: int | None = None
    """1 while the append-only file is being rewritten, else 0."""
    redis_aof_last_bgrewrite_status: int | None = None
    """Status of the newest rewrite of the append-only file, 1 or 0."""
    redis_aof_last_write_status: int | None = None
    """Status of the newest write to the append-only file, 1 or 0."""
    redis_aof_current_size_bytes: int | None = None
    """Bytes of the append-only file; absent if it is off."""
    redis_aof_delayed_fsync: int | None = None
    """Writes that had to wait for the disk since the server started; absent if the append-only file is off."""
    fcall_calls_total: int | None = None
    """Calls of server-side functions, the replay memory's and any others: the server has one counter."""
    fcall_calls_per_s: float | None = None
    """Calls of server-side functions per second since the previous sample."""
    fcall_mean_us: float | None = None
    """Mean time of those calls inside the server since the previous sample, microseconds; absent without calls."""
    fcall_p50_us: float | None = None
    """Median time of a call since the server started, microseconds."""
    fcall_p99_us: float | None = None
    """99th percentile of the time of a call since the server started, microseconds."""
    replay_agents: int | None = None
    """Agents alive, that is, holding a lease; counted up to 64."""
    replay_transitions: int | None = None
    """Transitions stored."""
    replay_capacity_transitions: int | None = None
    """Capacity of the memory, transitions."""
    replay_bytes: int | None = None
    """Bytes of transitions and priorities, estimated by MEMORY USAGE to about 1 %."""
    replay_bytes_per_transition: float | None = None
    """Bytes of one stored transition with its priority; 0 while the memory is empty."""
    replay_inserted_total: int | None = None
    """Transitions stored by all agents since the run began."""
    replay_sampled_total: int | None = None
    """Samples drawn since the run began."""
    replay_inserts_per_s: float | None = None
    """Transitions stored per second since the previous sample."""
    replay_samples_per_s: float | None = None
    """Samples drawn per second since the previous sample."""
    replay_samples_per_insert: float | None = None
    """Samples drawn per transition stored, since the run began."""


class MemoryWarned(Event):
    """A server or the replay memory needs attention, or no longer does."""

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
    """What was observed, in one line; a clear repeats the text of its onset."""
    value: float | None = None
    """Value measured at the onset: keys, bytes or seconds, depending on the kind."""
    limit: float | None = None
    """Limit it was compared with, in the same unit."""
    duration_s: float | None = None
    """How long the condition lasted, seconds; absent at the onset."""
