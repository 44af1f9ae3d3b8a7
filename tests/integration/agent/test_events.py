"""What an agent tells the event log, and at its health address; real processes of Catch."""

from collections.abc import Callable
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import aiohttp
import orjson
import pytest
from anyio import to_thread
from prometheus_client.parser import text_string_to_metric_families
from redis.asyncio import Redis

from borgcore.eventlog.open import open_consumer
from borgcore.eventlog.protocol import Partition
from borgcore.events.training import AgentReported, EpisodeEnded, LearnerReported, RunEnded, RunStarted
from borgcore.run.reports import AgentReport
from borgcore.settings.sections import EventsSettings
from tests.limits import LONG_TEST_TIMEOUT_S
from tests.valkey import ValkeyServer

from .events import check_event, read_stream
from .process import LEASE_S, RUN, StartAgent, report_where, within

SECRET = "hunter2"
pytestmark = pytest.mark.timeout(LONG_TEST_TIMEOUT_S)  # each start imports torch, on as few cores as there are


def trains(report: AgentReport) -> bool:
    return report.learner is not None and report.learner.updates > 50


async def test_a_run_is_told_from_begin_to_end_without_secrets(start_agent: StartAgent, redis: Redis) -> None:
    await redis.config_set("requirepass", SECRET)
    agent = start_agent(BORG_REDIS_PASSWORD=SECRET, BORG_EVENTS_PASSWORD=SECRET)
    await report_where(redis, 1, trains)
    fetched = await report_where(redis, 1, lambda report: report.weights_version > 0)
    later = max(fetched.episodes, 100) + 50  # so many more end with the weights fetched
    await report_where(redis, 1, lambda report: report.episodes > later)
    agent.terminate()
    assert await agent.ended() == 0
    raw = await read_stream(redis)
    events = [check_event(event) for event in raw]

    started, ended = events[0], events[-1]
    assert isinstance(started, RunStarted)
    assert isinstance(ended, RunEnded)
    assert (started.agent, started.pid, started.game, started.preset) == (1, agent.pid, "catch", "tiny")
    assert (started.learn, started.device, started.settings["lease_s"]) == ("elected", "cpu", LEASE_S)
    assert (ended.agent, ended.pid, ended.reason) == (1, agent.pid, "asked")
    assert SECRET.encode() not in orjson.dumps(raw)
    assert len({event["event_id"] for event in raw}) == len(raw)

    episodes = [event for event in events if isinstance(event, EpisodeEnded)]
    assert [event.episode for event in episodes] == list(range(1, ended.episodes + 1))
    assert all(event.episode_steps == 9 and not event.truncated for event in episodes)  # so long is each of Catch
    assert {event.episode_return for event in episodes} == {-1.0, 1.0}
    assert all(before.steps <= after.steps for before, after in pairwise(episodes))
    assert sum(event.episode_steps for event in episodes) <= ended.steps
    assert episodes[0].epsilon > episodes[-1].epsilon
    assert episodes[-1].inserted > 500
    assert episodes[-1].weights_version > 0

    reports = [event for event in events if isinstance(event, AgentReported)]
    times = [datetime.fromisoformat(event["@timestamp"]) for event in raw if event["event"] == "agent_reported"]
    assert min((after - before).total_seconds() for before, after in pairwise(times)) < 1.5  # each second, if it can
    assert reports[0].weights_age_s is None
    assert reports[-1].weights_age_s is not None
    assert reports[-1].return_20 is not None
    assert any(report.steps_per_s > 0 for report in reports)
    learner = [event for event in events if isinstance(event, LearnerReported)]
    assert learner[0].updates_per_s > 0.0
    assert all(report.samples_per_s == pytest.approx(report.updates_per_s * 64) for report in learner)
    assert [event.name for event in events].count("run_started") == 1


@pytest.mark.parametrize("learn", ["only", "never"])
async def test_a_pure_learner_and_a_pure_actor_tell_their_part(
    start_agent: StartAgent, redis: Redis, learn: str
) -> None:
    start_agent("--learn", "never" if learn == "only" else "only")
    agent = start_agent("--learn", learn)
    number = 1 if learn == "only" else 2
    await report_where(redis, 1, trains)
    await report_where(redis, number, lambda report: report.pid == agent.pid)
    agent.terminate()
    assert await agent.ended() == 0
    events = [event for event in map(check_event, await read_stream(redis)) if event.model_dump()["agent"] == number]
    kinds = {event.name for event in events}
    part = "learner_reported" if learn == "only" else "episode_ended"
    assert kinds == {"run_started", "agent_reported", part, "run_ended"}


async def test_where_the_log_is_away_the_agent_plays_on_and_ends_as_asked_within_the_grace(
    start_agent: StartAgent, redis: Redis, unused_port: int
) -> None:
    agent = start_agent("--events-url", f"kafka://127.0.0.1:{unused_port}")
    await report_where(redis, 1, trains)
    await agent.says("event_log_lost")
    agent.terminate()
    assert await agent.ended() == 0  # beyond the grace it would be 130
    output = await agent.output()
    assert output.count('"event":"event_log_lost"') == 1
    assert output.count('"event":"events_lost"') == 1
    assert "Traceback" not in output
    assert await read_stream(redis) == []


async def test_an_agent_that_loses_redis_says_so_in_a_log_that_is_elsewhere(
    start_agent: StartAgent, redis: Redis, kafka_address: str, run: str
) -> None:
    log = EventsSettings(url=f"kafka://{kafka_address}", prefix=f"{run}-")
    agent = start_agent(
        "--redis-outage-s", "1", "--replay.push-timeout-s", "1", "--replay.sample-timeout-s", "1",
        "--events-url", log.url, "--events-prefix", log.prefix,
    )  # fmt: skip
    await report_where(redis, 1, trains)
    await redis.shutdown(nosave=True)
    line = await agent.last_line(code=3)

    async def ignore(_: object) -> None:
        pass

    found: list[bytes | None] = []
    async with open_consumer(log, RUN, ["training_log"], group=run, member="1", revoked=ignore) as consumer:

        async def ended() -> bool:
            chunks = await consumer.fetch(1_000, 0.5)
            assert all(isinstance(chunk.partition, Partition) for chunk in chunks)
            found.extend(value for chunk in chunks for value in chunk.values)
            return any(value is not None and b'"run_ended"' in value for value in found)

        await within(ended)
    events = [check_event(orjson.loads(value or b"")) for value in found]
    assert isinstance(events[0], RunStarted)
    assert isinstance(events[-1], RunEnded)
    assert f"borg-agent: {events[-1].reason}" == line


async def test_reports_reach_a_log_that_is_elsewhere_each_second_while_redis_is_away(
    start_agent: StartAgent,
    start_valkey: Callable[..., ValkeyServer],
    short_folder: Path,
    valkey: str,
    redis: Redis,
) -> None:
    own = short_folder / "r"
    server = start_valkey(own, appendonly="yes", appendfsync="always")
    agent = start_agent("--events-url", valkey, url=f"unix://{own}")

    async def times() -> list[datetime]:
        told = [event for event in await read_stream(redis) if event["event"] == "agent_reported"]
        return [datetime.fromisoformat(event["@timestamp"]) for event in told]

    async def more(than: int) -> bool:
        return len(await times()) >= than + 4

    await within(lambda: more(0))
    await to_thread.run_sync(server.stop)
    before = len(await times())
    await within(lambda: more(before))
    await to_thread.run_sync(server.start)
    await agent.says("redis_regained")
    agent.terminate()
    assert await agent.ended() == 0
    gaps_s = [(after - earlier).total_seconds() for earlier, after in pairwise(await times())]
    assert min(gaps_s) < 1.5  # each second, if the machine lets it


async def test_health_and_metrics_follow_the_agent_and_its_server(
    start_agent: StartAgent, start_valkey: Callable[..., ValkeyServer], short_folder: Path, unused_port: int
) -> None:
    server = start_valkey(short_folder / "r", appendonly="yes", appendfsync="always")
    agent = start_agent("--health-address", f"127.0.0.1:{unused_port}", url=f"unix://{short_folder / 'r'}")
    async with aiohttp.ClientSession(f"http://127.0.0.1:{unused_port}") as session:

        async def get(path: str) -> tuple[int, str]:
            async with session.get(path) as answer:
                return answer.status, await answer.text()

        async def answers(status: int) -> bool:
            try:
                return (await get("/readyz"))[0] == status
            except aiohttp.ClientConnectionError:
                return False

        async def sample(name: str) -> float | None:
            families = text_string_to_metric_families((await get("/metrics"))[1])
            found = [sample for family in families for sample in family.samples if sample.name == name]
            assert all(one.labels == {"run": RUN, "agent": "1"} for one in found if "events" not in name)
            return found[0].value if found else None

        async def learns() -> bool:
            return (await sample("borg_learner_updates_total") or 0.0) > 20

        await within(lambda: answers(200))
        assert await get("/healthz") == (200, "ok\n")
        await within(learns)
        assert (await sample("borg_agent_steps_total") or 0.0) > 500
        assert (await sample("borg_agent_episodes_total") or 0.0) > 20
        assert -1.0 <= (await sample("borg_agent_return") or 0.0) <= 1.0
        assert (await sample("borg_learner_wait_seconds_total") or 0.0) > 0.0
        assert (await sample("borg_events_published_total") or 0.0) > 20

        await to_thread.run_sync(server.stop)
        await within(lambda: answers(503))
        assert (await get("/readyz"))[1] == "service: not ready\n"
        assert await get("/healthz") == (200, "ok\n")  # nobody needs to mend the agent itself
        await to_thread.run_sync(server.start)
        await within(lambda: answers(200))
    agent.terminate()
    assert await agent.ended() == 0
