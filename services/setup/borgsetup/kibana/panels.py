"""The dashboard from top to bottom; after a change regenerate deploy/kibana/dashboard.ndjson.

A panel shows fields of one event over time, or over the numeric field ``x``; ``split`` draws one line per value of a
field. Labels and descriptions that are left out are those of the field, see docs/events.md. Decimals, units and the
titles of axes follow from the field, see format.py.
"""

from borgcore.events.monitoring import EventsDropped, MemorySampled, MemoryWarned, ShipperReported
from borgcore.events.training import AgentReported, EpisodeEnded, LearnerReported
from borgsetup.kibana.panel import TIME, Metric, Panel, Row

HEADLINES = (
    Panel(
        "Transitions stored",
        "Largest number of transitions in the replay memory.",
        MemorySampled,
        (Metric("max", "replay_transitions", "Transitions stored"),),
        "number",
    ),
    Panel(
        "Mean return now",
        "Mean return of each agent's newest 20 episodes, averaged over agents and the last minute.",
        AgentReported,
        (Metric("average", "return_20", "Mean return now", newest="1m"),),
        "number",
    ),
    Panel(
        "Best mean return",
        "Highest mean return over 20 consecutive episodes of any agent.",
        AgentReported,
        (Metric("max", "return_20", "Best mean return"),),
        "number",
    ),
    Panel(
        "Agents alive now",
        "Largest number of agents alive at once during the last minute.",
        MemorySampled,
        (Metric("max", "replay_agents", "Agents alive now", newest="1m"),),
        "number",
    ),
    Panel(
        "Episodes played",
        "Episodes that all agents finished in the time range.",
        EpisodeEnded,
        (Metric("count", None, "Episodes played"),),
        "number",
    ),
    Panel(
        "Train steps",
        None,
        LearnerReported,
        (Metric("max", "updates"),),
        "number",
    ),
)
RETURNS = (
    Panel(
        "Reward over steps",
        "Mean return of finished episodes over the transitions that all agents had stored by then.",
        EpisodeEnded,
        (Metric("average", "episode_return", "Episode return"),),
        split=("agent",),
        x="inserted",
        x_title="Transitions stored by all agents",
    ),
    Panel(
        "Return per agent, smoothed",
        "Mean return of each agent's newest 20 episodes, once 20 have ended.",
        AgentReported,
        (Metric("average", "return_20", "Mean return of 20 episodes"),),
        split=("agent",),
    ),
)
LEARNING = (
    Panel(
        "Episodes per agent",
        "Episodes that each agent finished.",
        EpisodeEnded,
        (Metric("count", None, "Episodes"),),
        "bar_stacked",
        split=("agent",),
    ),
    Panel(
        "Loss",
        "Mean Huber loss, weighted by importance: how far predicted values are from their targets.",
        LearnerReported,
        (Metric("average", "loss"),),
    ),
    Panel(
        "Mean Q",
        "Mean Q value of the actions in the batches; if it grows without bound, learning diverges.",
        LearnerReported,
        (Metric("average", "mean_q"),),
    ),
    Panel(
        "Epsilon per agent",
        None,
        AgentReported,
        (Metric("average", "epsilon"),),
        split=("agent",),
    ),
)
SPEED = (
    Panel(
        "Agent steps per second",
        "How fast the agents play, stacked to their sum.",
        AgentReported,
        (Metric("average", "steps_per_s"),),
        "area_stacked",
        split=("agent",),
    ),
    Panel(
        "Train steps per second",
        "How fast the learner trains.",
        LearnerReported,
        (Metric("average", "updates_per_s"),),
    ),
    Panel(
        "Policy lag",
        "Seconds since each agent fetched the weights it plays with.",
        AgentReported,
        (Metric("average", "weights_age_s", "Age of weights"),),
        split=("agent",),
    ),
)
BALANCE = (
    Panel(
        "Learner waits",
        "Share of the time the learner waits for data, or because samples are ahead of inserts.",
        LearnerReported,
        (
            Metric("average", "wait_share"),
            Metric("average", "limiter_share"),
        ),
    ),
    Panel(
        "Acting pauses",
        None,
        AgentReported,
        (Metric("average", "pause_share", "Paused"),),
        split=("agent",),
    ),
    Panel(
        "Samples per insert",
        None,
        MemorySampled,
        (Metric("average", "replay_samples_per_insert", "Samples per insert"),),
    ),
)
MEMORY = (
    Panel(
        "Memory item count",
        "Transitions stored; once the memory is full, new ones replace the oldest.",
        MemorySampled,
        (Metric("max", "replay_transitions", "Transitions"),),
    ),
    Panel(
        "Memory size",
        "Bytes allocated by the server (in a cluster, the fullest one), and bytes of transitions and priorities.",
        MemorySampled,
        (
            Metric("max", "redis_memory_used_bytes", "Server"),
            Metric("max", "replay_bytes", "Replay memory"),
        ),
    ),
    Panel(
        "Bytes per transition",
        None,
        MemorySampled,
        (Metric("average", "replay_bytes_per_transition", "Bytes per transition"),),
    ),
)
SERVER = (
    Panel(
        "Server commands per second",
        None,
        MemorySampled,
        (Metric("average", "redis_instantaneous_ops_per_sec", "Commands per second"),),
        split=("node",),
    ),
    Panel(
        "Function latency",
        "Mean time of a call of server-side functions inside the server.",
        MemorySampled,
        (Metric("average", "fcall_mean_us", "Mean time of a call"),),
        split=("node",),
    ),
    Panel(
        "Agents alive",
        None,
        MemorySampled,
        (Metric("max", "replay_agents", "Agents"),),
    ),
    Panel(
        "Memory warnings",
        "Warnings that began or ended: how often, and when last.",
        MemoryWarned,
        (Metric("count", None, "Times"), Metric("max", TIME, "Newest")),
        "table",
        split=("kind", "state"),
    ),
)
PIPELINE = (
    Panel(
        "Shipper lag",
        None,
        ShipperReported,
        (Metric("max", "lag", "Events behind"),),
        split=("shipper",),
    ),
    Panel(
        "Dead letters",
        "Records that can never be stored, since each shipper started.",
        ShipperReported,
        (Metric("max", "dead_letters", "Dead letters"),),
        split=("shipper",),
    ),
    Panel(
        "Events dropped",
        "Events lost while the log was unavailable, or trimmed unread from a full stream.",
        EventsDropped,
        (Metric("sum", "dropped", "Events dropped"),),
        "bar_stacked",
        split=("service",),
    ),
)
ROWS = (
    Row(6, HEADLINES),
    Row(13, RETURNS),  # how well it learns
    Row(11, LEARNING),
    Row(11, SPEED),  # how fast
    Row(11, BALANCE),
    Row(11, MEMORY),  # the memory
    Row(11, SERVER),
    Row(10, PIPELINE),  # from the event log to the store
)
