"""Measure whether a real agent plays on while its Kafka is killed, and whether events are lost."""

import argparse
import os
import signal
import statistics
import time
from collections import Counter
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import anyio
import orjson
from aiokafka import AIOKafkaConsumer

from bench.shared.broker import run_broker
from bench.shared.lines import print_progress
from bench.shared.turns import RUN, Pace, Player, report, start_player
from borgcore.settings.sections import EventsSettings

TOPIC = "training_log"
CATCH_UP_S = 60.0  # for sending the events buffered during the outage
END_S = 30.0
REPORT_PERIOD_S = 1.0


def measure_outage(valkey: Path, folder: Path, options: argparse.Namespace) -> None:
    """Report the agent's pace with Kafka up and killed, in turns that begin and end with it up, and the lost events."""
    with run_broker(folder) as broker:
        log = EventsSettings(url=f"kafka://{broker.address}")
        print_progress("starting an agent")
        player = start_player("outage", log, valkey, options.game)
        try:
            player.measure(options.seconds)
            for number in range(options.rounds):
                print_progress(f"round {number + 1} of {options.rounds}: Kafka is killed")
                broker.kill()
                player.measure(options.seconds)
                print_progress(f"round {number + 1} of {options.rounds}: Kafka is back")
                broker.start()
                _catch_up(player)
                player.measure(options.seconds)
            player.process.send_signal(signal.SIGTERM)
            player.process.wait(END_S)
        finally:
            player.process.kill()
            player.process.wait()
        events = anyio.run(_read, broker.address)
    params = {"game": options.game, "rounds": options.rounds, "seconds": options.seconds, "cpus": os.cpu_count()}
    for metric in Pace._fields:
        paces = [getattr(pace, metric) for pace in player.paces]
        up, killed = paces[::2], paces[1::2]
        around = [statistics.mean(pair) for pair in pairwise(up)]
        report(f"outage_{metric}", statistics.median(up), "1/s", params | {"kafka": "up"})
        report(f"outage_{metric}", statistics.median(killed), "1/s", params | {"kafka": "killed"})
        ratios = [without / with_log for without, with_log in zip(killed, around, strict=True)]
        each = {"each": [round(ratio, 4) for ratio in ratios]}
        report(f"outage_{metric}_killed_over_up", statistics.median(ratios), "1", params | each)
    report("outage_events", len(events), "1", params)
    report("outage_events_lost", _count_lost(events), "1", params)


def _catch_up(player: Player) -> None:
    deadline_s = time.monotonic() + CATCH_UP_S
    while player.sample("borg_events_pending"):
        if time.monotonic() > deadline_s:
            raise TimeoutError(f"Kafka was restarted {CATCH_UP_S:.0f} s ago and the agent still holds unsent events")
        time.sleep(0.1)


async def _read(address: str) -> list[dict[str, Any]]:
    """Read all events of the topic; one that was sent twice counts once."""
    consumer = AIOKafkaConsumer(TOPIC, bootstrap_servers=address, auto_offset_reset="earliest")
    await consumer.start()
    events: dict[str, dict[str, Any]] = {}
    try:
        left = sum((await consumer.end_offsets(consumer.assignment())).values())
        with anyio.fail_after(CATCH_UP_S):
            while left > 0:
                for records in (await consumer.getmany(timeout_ms=500)).values():
                    left -= len(records)
                    events |= {event["event_id"]: event for event in (orjson.loads(one.value) for one in records)}
    finally:
        await consumer.stop()
    return sorted(events.values(), key=lambda event: event["event_id"])


def _count_lost(events: list[dict[str, Any]]) -> int:
    """Count missing events: episodes by the total in run_ended, reports by the seconds between them."""
    kinds = Counter(event["event"] for event in events)
    ended = next((event for event in events if event["event"] == "run_ended"), None)
    if ended is None or kinds["run_started"] != 1:
        raise RuntimeError(
            f"run {RUN}: the log has {dict(kinds)}, expected one run_started and one run_ended; nothing was counted"
        )
    reports = [datetime.fromisoformat(event["@timestamp"]) for event in events if event["event"] == "agent_reported"]
    gaps_s = [(after - before).total_seconds() for before, after in pairwise(reports)]
    return int(ended["episodes"]) - kinds["episode_ended"] + sum(round(gap / REPORT_PERIOD_S) - 1 for gap in gaps_s)
