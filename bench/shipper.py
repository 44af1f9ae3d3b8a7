"""Compare our logshipper with rsyslog and a bare loop: Kafka to a scripted ``_bulk`` sink and to a real Elasticsearch.

    python -m bench.shipper              one JSON line for each shipper and store on standard output
    python -m bench.shipper --memory     ten million documents: does the shipper's memory stay flat?

TEST_BORG_KAFKA holds Kafka's address, TEST_BORG_ELASTICSEARCH Elasticsearch's (without it, only the sink is used).
Values are medians over rounds in which the shippers take turns. documents_per_s counts from the first request to the
last. CPU seconds are those of the shipper's process until ``SETTLE_S`` after the last document, minus those for
starting, joining its group and idling as long, measured on empty topics.
"""

import argparse
import asyncio
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.shared.lines import print_line, print_progress
from bench.shared.load import COMPRESSION, EVENT_BYTES, PARTITIONS, create_topics, delete_topics, fill
from bench.shared.peers import BARE, OURS, RSYSLOG, Peer, find_peers
from bench.shared.rounds import Bench, Round, StartUp
from bench.shared.signals import exit_on_sigterm
from bench.shared.targets import ElasticTarget, SinkTarget, Target, open_sink

MARKS = (0.01, 0.1, 0.5, 1.0)  # shares of the documents at which memory is printed


def main() -> None:
    """Measure, print the results, delete the topics and indices."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, help="documents (default: 300,000; 10,000,000 with --memory)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds, of which medians are printed (default: 3)")
    parser.add_argument(
        "--peers", nargs="+", choices=[OURS, BARE, RSYSLOG], help="shippers to run (default: all installed)"
    )
    parser.add_argument("--only-sink", action="store_true", help="skip Elasticsearch")
    parser.add_argument("--memory", action="store_true", help="measure the memory of our shipper instead")
    options = parser.parse_args()
    exit_on_sigterm()
    kafka = os.environ.get("TEST_BORG_KAFKA")
    if kafka is None:
        sys.exit("bench.shipper: TEST_BORG_KAFKA is not set, expected host:port of a Kafka; nothing was measured")
    documents = options.documents or (10_000_000 if options.memory else 300_000)
    peers = find_peers()
    if RSYSLOG not in {peer.name for peer in peers}:
        print_progress("rsyslogd, imkafka or omelasticsearch is not installed: rsyslog is left out")
    wanted = [OURS] if options.memory else options.peers or [peer.name for peer in peers]
    peers = [peer for peer in peers if peer.name in wanted]
    with _bench(kafka, documents) as bench, open_sink() as sink:
        if options.memory:
            _report_memory(bench, peers[0], sink, documents)
            return
        targets: list[Target] = [sink]
        url = os.environ.get("TEST_BORG_ELASTICSEARCH")
        if url is not None and not options.only_sink:
            targets.append(ElasticTarget(url))
        for target in targets:
            _compare(bench, peers, target, documents, options.rounds)


@contextmanager
def _bench(kafka: str, documents: int) -> Iterator[Bench]:
    """Fill topics with a unique prefix; delete them at the end."""
    mark = f"bench-{os.getpid()}-{int(time.time())}"
    with tempfile.TemporaryDirectory(prefix="borg-bench-") as folder:
        bench = Bench(kafka, mark, documents, Path(folder))
        try:
            for prefix in (bench.full, bench.empty):
                asyncio.run(create_topics(kafka, prefix))
            began_s = time.monotonic()
            asyncio.run(fill(kafka, bench.full, documents))
            print_progress(f"filled Kafka with {documents} events, {documents / (time.monotonic() - began_s):.0f}/s")
            yield bench
        finally:
            asyncio.run(delete_topics(kafka, [bench.full, bench.empty]))


def _compare(bench: Bench, peers: list[Peer], target: Target, documents: int, rounds: int) -> None:
    """Let the shippers take turns; print a line for each, then their ratios to ours."""
    starts: dict[str, list[StartUp]] = {peer.name: [] for peer in peers}
    done: dict[str, list[Round]] = {peer.name: [] for peer in peers}
    for number in range(rounds):
        for peer in peers:
            starts[peer.name].append(bench.start_up(peer, target))
            one = bench.ship(peer, target)
            cpu_s = one.cpu_s - starts[peer.name][-1].cpu_s
            rates = f"{one.arrived.documents_per_s:.0f}/s, {one.arrived.documents / cpu_s:.0f} per CPU second"
            print_progress(f"{target.name} {number + 1}/{rounds}: {peer.name} {rates}, {one.counts}")
            done[peer.name].append(one)
    medians = {peer.name: _report(peer, target, documents, done[peer.name], starts[peer.name]) for peer in peers}
    if OURS in medians:
        ours = medians[OURS]
        for name, theirs in medians.items():
            if name != OURS:
                ratios = {metric: round(ours[metric] / theirs[metric], 3) for metric in ours}
                print_line("shipper", what=target.name, ratio=f"{OURS} / {name}", **ratios)


def _report(peer: Peer, target: Target, documents: int, rounds: list[Round], starts: list[StartUp]) -> dict[str, float]:
    start_cpu_s = statistics.median(start.cpu_s for start in starts)
    rates = [one.arrived.documents_per_s for one in rounds]
    since_start = [one.arrived.documents / one.since_start_s for one in rounds]
    per_cpu_s = [one.arrived.documents / (one.cpu_s - start_cpu_s) for one in rounds]
    medians: dict[str, float] = {
        "documents_per_s": round(statistics.median(rates)),
        "documents_per_cpu_s": round(statistics.median(per_cpu_s)),
    }
    print_line(
        "shipper",
        what=target.name,
        peer=peer.name,
        documents=documents,
        **medians,
        cpu_s_per_100k=round(100_000 / medians["documents_per_cpu_s"], 3),
        documents_per_s_since_start=round(statistics.median(since_start)),
        start_up_s=round(statistics.median(start.ready_s for start in starts), 2),
        start_up_cpu_s=round(start_cpu_s, 2),
        rounds=len(rounds),
        each_documents_per_s=[round(rate) for rate in rates],
        each_documents_per_cpu_s=[round(rate) for rate in per_cpu_s],
        arrived=[one.counts for one in rounds],
        committed=[one.committed for one in rounds],
        facts=_facts(peer, target),
    )
    return medians


def _report_memory(bench: Bench, peer: Peer, sink: SinkTarget, documents: int) -> None:
    one, samples = bench.watch_memory(peer, sink)
    at = {
        f"rss_mb_at_{share * 100:.0f}_percent": round(
            next(rss for count, rss in samples if count >= share * documents) / 1e6, 1
        )
        for share in MARKS
    }
    print_line(
        "shipper",
        what="memory",
        peer=peer.name,
        documents=documents,
        documents_per_s=round(one.arrived.documents_per_s),
        **at,
        rss_mb_max=round(max(rss for _, rss in samples) / 1e6, 1),
        samples=len(samples),
        arrived=one.counts,
        committed=one.committed,
        facts=_facts(peer, sink),
    )


def _facts(peer: Peer, target: Target) -> dict[str, Any]:
    kafka = f"{PARTITIONS} partitions, {EVENT_BYTES}-byte events, {COMPRESSION}"
    machine = {"python": platform.python_version(), "cpus": os.cpu_count()}
    return {"kafka": kafka, "store": target.version, **machine, **peer.facts}


if __name__ == "__main__":
    main()
