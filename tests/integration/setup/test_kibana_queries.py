"""What Kibana asks for each panel, asked of a real Elasticsearch that holds real events."""

import math
import uuid
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import anyio
import orjson
import pytest

from borgcore.eventlog.publisher import encode_event
from borgcore.events.elasticsearch_templates import index_template
from borgcore.events.monitoring import EventsDropped, MemorySampled, MemoryWarned, ShipperReported
from borgcore.events.schema import Event
from borgcore.events.topics import TOPICS
from borgcore.events.training import AgentReported, EpisodeEnded, LearnerReported
from borgsetup.kibana.objects import CONTROLS
from borgsetup.kibana.panel import Panel, place_panels
from borgsetup.kibana.panels import ROWS
from borgsetup.kibana.queries import TimeRange, number_interval, search_body
from tests.limits import HANG_S

PANELS = [panel for panel, _ in place_panels(ROWS)]
AGENTS = (1, 2)
SECONDS = 3  # a report of each kind for each


def make_events(second: int) -> Iterator[Event]:
    for agent in AGENTS:
        yield AgentReported(
            agent=agent, agents=2, steps=400 * second, steps_per_s=400.5, episodes=second, return_20=-19.5 + agent,
            epsilon=0.1 / agent, weights_version=second, weights_age_s=1.5, pause_share=0.25, stale=0, corrupt=0,
            events_dropped=0,
        )  # fmt: skip
        yield EpisodeEnded(
            agent=agent, episode=second, episode_return=-21.0 + agent, episode_steps=850, truncated=False,
            steps=400 * second, inserted=2500 * second, epsilon=0.1, weights_version=second,
        )  # fmt: skip
    yield LearnerReported(
        agent=1, updates=50 * second, updates_per_s=50.5, samples_per_s=1616.0, batch_size=32, loss=0.02, mean_q=-0.7,
        wait_share=0.03, limiter_share=0.4,
    )  # fmt: skip
    yield MemorySampled(
        node="127.0.0.1:6379", server="Valkey", server_version="9.1.0", polls_missed=0,
        redis_memory_used_bytes=600_000_000 + second, redis_instantaneous_ops_per_sec=900, fcall_mean_us=41.5,
        replay_agents=2, replay_transitions=2500 * second, replay_bytes=1_425_000 * second,
        replay_bytes_per_transition=570.0, replay_samples_per_insert=8.0,
    )  # fmt: skip
    yield ShipperReported(shipper="a", lag=12, shipped=1000, repeated=0, dead_letters=1, retried=0, lost=0)
    yield EventsDropped(service="agent", agent=2, dropped=7, outage_s=3.5, reason="buffer_full")
    state = "onset" if second == 1 else "clear"
    yield MemoryWarned(node="127.0.0.1:6379", kind="memory_high", state=state, text="91 % of maxmemory are in use")


@dataclass(frozen=True)
class Store:
    """Elasticsearch with an index of events for each topic."""

    session: aiohttp.ClientSession
    prefix: str
    span: TimeRange

    async def add(self, events: Iterable[Event]) -> None:
        lines = []
        for event in events:
            body = encode_event(event, "pong")
            index = f"{self.prefix}{event.topic}-2026.11"
            lines += [orjson.dumps({"create": {"_index": index, "_id": orjson.loads(body)["event_id"]}}), body]
        headers = {"content-type": "application/x-ndjson"}
        body = b"\n".join([*lines, b""])
        async with self.session.post("/_bulk?refresh=true", data=body, headers=headers) as response:
            assert (await response.json())["errors"] is False

    async def search(self, topic: str, body: dict[str, Any]) -> Any:
        async with self.session.post(f"/{self.prefix}{topic}-*/_search", json=body) as response:
            found = await response.json()
            assert response.status == 200, found
            return found


@pytest.fixture
async def store(elasticsearch_url: str) -> AsyncIterator[Store]:
    prefix = f"test-kibana-{uuid.uuid4().hex[:12]}-"
    now = datetime.now(UTC)
    span = TimeRange(now - timedelta(minutes=29.5), now + timedelta(minutes=0.5))
    async with aiohttp.ClientSession(elasticsearch_url, raise_for_status=False) as session:
        opened = Store(session, prefix, span)
        try:
            for topic in TOPICS:
                template = index_template(topic, prefix, 0)
                async with session.put(f"/_index_template/{prefix}{topic}", json=template) as response:
                    assert response.status == 200, await response.text()
            await opened.add(event for second in range(1, SECONDS + 1) for event in make_events(second))
            yield opened
        finally:
            for topic in TOPICS:
                await session.delete(f"/{prefix}{topic}-2026.11?ignore_unavailable=true")
                await session.delete(f"/_index_template/{prefix}{topic}")


def read_rows(aggs: dict[str, Any], found: dict[str, Any], keys: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Rows as Kibana makes them of an answer: keys of the buckets, then what was computed in the innermost."""
    buckets = {name: agg for name, agg in aggs.items() if agg.keys() & {"terms", "histogram", "date_histogram"}}
    if not buckets:
        yield keys, [read_number(found[name]) for name in aggs], found.get("doc_count")
    for name, agg in buckets.items():
        for bucket in found[name]["buckets"]:
            yield from read_rows(agg["aggs"], bucket, (*keys, bucket["key"]))


def read_number(found: dict[str, Any]) -> float | None:
    if "value" in found:
        number: float | None = found["value"]
        return number
    (inner,) = (value for value in found.values() if isinstance(value, dict))
    return read_number(inner)


async def test_every_panel_has_numbers_to_show(store: Store) -> None:
    with anyio.fail_after(HANG_S):
        for panel in PANELS:
            body = search_body(panel, store.span)
            found = await store.search(panel.event.topic, body)
            assert found["_shards"]["failed"] == 0
            assert found["hits"]["total"]["value"] >= SECONDS, panel.id
            rows = list(read_rows(body["aggs"], found.get("aggregations", {})))
            filled = [row for row in rows if row[2] != 0]
            assert filled, panel.id
            for keys, numbers, _ in filled:
                assert len(keys) == len(panel.split) + panel.has_axis
                assert all(number is not None and math.isfinite(number) for number in numbers), panel.id


def panel_of(id_: str) -> Panel:
    (panel,) = (panel for panel in PANELS if panel.id == id_)
    return panel


async def test_reward_over_steps_has_a_line_for_each_agent(store: Store) -> None:
    panel = panel_of("reward-over-steps")
    body = search_body(panel, replace(store.span, number_interval=number_interval(2500, 7500)))
    with anyio.fail_after(HANG_S):
        found = await store.search(panel.event.topic, body)
    steps = [2500.0, 5000.0, 7500.0]  # in intervals of 100
    assert [(keys, numbers) for keys, numbers, _ in read_rows(body["aggs"], found["aggregations"])] == [
        ((agent, step), [-21.0 + agent]) for agent in AGENTS for step in steps
    ]


async def test_reward_over_steps_averages_several_episodes_at_each_of_at_most_60_points(store: Store) -> None:
    ends = range(850, 600_000, 850)  # a run of 705 episodes of one agent
    episodes = [
        EpisodeEnded(
            agent=3, episode=n, episode_return=-21.0 + n % 3, episode_steps=850, truncated=False, steps=inserted,
            inserted=inserted, epsilon=0.1, weights_version=n,
        )
        for n, inserted in enumerate(ends)
    ]  # fmt: skip
    panel = panel_of("reward-over-steps")
    body = search_body(panel, replace(store.span, number_interval=number_interval(min(ends), max(ends))))
    with anyio.fail_after(HANG_S):
        await store.add(episodes)
        found = await store.search(panel.event.topic, body)
    (agent,) = (one for one in found["aggregations"]["0"]["buckets"] if one["key"] == 3)
    counts = [point["doc_count"] for point in agent["1"]["buckets"]]
    assert len(counts) <= 61  # Kibana's limit is for whole intervals; the ends may lie within one more
    assert sum(counts) == len(episodes)
    assert min(counts) >= 10


async def test_a_time_axis_spans_the_whole_time_range_also_where_nothing_happened(store: Store) -> None:
    panel = panel_of("loss")
    body = search_body(panel, store.span)
    with anyio.fail_after(HANG_S):
        found = await store.search(panel.event.topic, body)
    rows = list(read_rows(body["aggs"], found["aggregations"]))
    assert len(rows) in {60, 61}  # 30 minutes in buckets of 30 s, which begin on the clock's half minutes
    assert sum(count for _, _, count in rows) == SECONDS


async def test_what_is_true_now_leaves_out_what_is_older_than_its_minute(store: Store) -> None:
    panel = panel_of("agents-alive-now")
    later = TimeRange(store.span.start, store.span.end + timedelta(minutes=5))
    with anyio.fail_after(HANG_S):
        then = await store.search(panel.event.topic, search_body(panel, later))
    assert then["hits"]["total"]["value"] == SECONDS
    assert read_number(then["aggregations"]["0"]) is None


async def test_warnings_are_counted_by_kind_and_state_with_the_newest_time_of_each(store: Store) -> None:
    panel = panel_of("memory-warnings")
    body = search_body(panel, store.span)
    with anyio.fail_after(HANG_S):
        found = await store.search(panel.event.topic, body)
    rows = list(read_rows(body["aggs"], found["aggregations"]))
    assert [(keys, count) for keys, _, count in rows] == [(("memory_high", "clear"), 2), (("memory_high", "onset"), 1)]
    for _, (newest,), _ in rows:
        assert store.span.start.timestamp() < newest / 1000 < store.span.end.timestamp()


async def test_controls_have_values_to_offer(store: Store) -> None:
    for field in CONTROLS:
        body = {"size": 0, "aggs": {"suggestions": {"terms": {"field": field, "order": {"_key": "asc"}}}}}
        with anyio.fail_after(HANG_S):
            found = await store.search("training_log", body)
        values = [bucket["key"] for bucket in found["aggregations"]["suggestions"]["buckets"]]
        assert values == {"run": ["pong"], "agent": list(AGENTS)}[field]
