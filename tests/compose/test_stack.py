import json
import re
from datetime import UTC, datetime, timedelta

import pytest

from borgcore.events.monitoring import EventsDropped, MemoryWarned
from borgsetup.kibana.panel import place_panels
from borgsetup.kibana.panels import ROWS
from borgsetup.kibana.queries import TimeRange, search_body
from borgsetup.store import SHIPPER_KEYS, ShipperKey
from tests.compose.stack import SECRETS, Stack, now_ms

AGENT_EVENTS = ("run_started", "agent_reported", "learner_reported")
SERVERS = ("redis", "kafka", "elasticsearch")
OURS = ("agent", "monitor", "logshipper")
START_S, COME_BACK_S = 600, 900  # guards against hanging alone
OWN_LAYERS_BYTES = 75_000_000  # beside the base image; the official one has 130 MB
SEND_TOO_DEEP = """
import asyncio
from aiokafka import AIOKafkaProducer

async def main():
    word = open("/run/keys/borg_events_password").read()
    login = dict(security_protocol="SASL_PLAINTEXT", sasl_mechanism="PLAIN", sasl_plain_username="agent")
    async with AIOKafkaProducer(bootstrap_servers="kafka:9092", sasl_plain_password=word, **login) as producer:
        deep = b'{"in":' * 24 + b"1" + b"}" * 24
        record = b'{"@timestamp":"2026-11-22T10:00:00Z","event":"too_deep","deep":' + deep + b"}"
        await producer.send_and_wait("training_log", record)

asyncio.run(main())
"""
DELETE_TOPIC = """
import asyncio, os
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import for_code

async def main():
    word = open("/run/keys/borg_events_password").read()
    login = dict(security_protocol="SASL_PLAINTEXT", sasl_mechanism="PLAIN", sasl_plain_username="agent")
    admin = AIOKafkaAdminClient(bootstrap_servers="kafka:9092", sasl_plain_password=word, **login)
    await admin.start()
    reply = await admin.delete_topics(["training_log"])
    await admin.close()
    print(*[for_code(code).__name__ for _, code, *_ in reply.topic_error_codes])

asyncio.run(main())
"""

pytestmark = pytest.mark.timeout(3_600)


def test_events_of_the_agent_the_monitor_and_the_shipper_arrive(stack: Stack) -> None:
    stack.expect_events(*AGENT_EVENTS, "memory_sampled", "shipper_reported", limit_s=START_S)
    stack.expect_events("episode_ended", limit_s=COME_BACK_S)


def test_every_panel_of_the_dashboard_has_something_to_show_of_a_real_run(stack: Stack) -> None:
    stack.expect_events(*AGENT_EVENTS, "episode_ended", "memory_sampled", "shipper_reported", limit_s=COME_BACK_S)
    now = datetime.now(UTC)
    span = TimeRange(now - timedelta(minutes=30), now)
    panels = [panel for panel, _ in place_panels(ROWS) if panel.event not in {EventsDropped, MemoryWarned}]
    assert len(panels) > 20
    for panel in panels:
        found = stack.ask(f"/{panel.event.topic}-*/_search", search_body(panel, span))
        assert found["hits"]["total"]["value"] > 0, panel.title


def test_agents_are_added_and_taken_away(stack: Stack) -> None:
    since_ms = now_ms()
    stack.up("--no-recreate", "--scale", "agent=3")
    for agent in (1, 2, 3):
        stack.expect_events("agent_reported", agent=agent, agents=3, since_ms=since_ms, limit_s=START_S)
    stack.up("--no-recreate", "--scale", "agent=1")
    stack.expect("two agents ended as asked", lambda: ended_since(stack, since_ms) == 2, START_S)
    since_ms = now_ms()
    stack.expect_events("agent_reported", agents=1, since_ms=since_ms, limit_s=START_S)


def ended_since(stack: Stack, since_ms: int) -> int:
    return stack.count("run_ended", since_ms=since_ms, reason="asked")


def test_a_dead_letter_is_stored_by_a_replay_once_its_cause_is_mended(stack: Stack) -> None:
    stack.expect_healthy(OURS, COME_BACK_S)
    stack.docker("exec", stack.containers("agent")[0]["Id"], "python", "-c", SEND_TOO_DEEP)
    stack.expect("a dead letter", lambda: "it is nested 25 deep" in stack.compose("logs", "logshipper"), START_S)
    replay = ("run", "--rm", "--no-deps", "logshipper", "--replay-dead-letters")
    assert "1 read, 0 records stored, 1 refused again" in stack.compose(*replay)
    assert stack.count("too_deep") == 0
    assert "1 read, 1 records stored, 0 refused again" in stack.compose(*replay, "--max-depth", "30")
    stack.expect("its document", lambda: stack.count("too_deep") == 1, START_S)


@pytest.mark.parametrize("service", [*SERVERS, *OURS])
def test_a_container_that_dies_comes_back_and_events_flow_again(stack: Stack, service: str) -> None:
    stack.expect_healthy([*SERVERS, *OURS], COME_BACK_S)
    before = stack.containers(service)[0]["RestartCount"]
    stack.crash(service)
    stack.expect("a restart", lambda: stack.containers(service)[0]["RestartCount"] > before, COME_BACK_S)
    stack.expect_healthy([*SERVERS, *OURS], COME_BACK_S)
    stack.expect_events("agent_reported", "memory_sampled", since_ms=now_ms(), limit_s=COME_BACK_S)


def test_after_down_and_up_the_run_goes_on_from_what_it_was(stack: Stack) -> None:
    stack.expect_events(*AGENT_EVENTS, "memory_sampled", limit_s=START_S)
    documents = stack.count("memory_sampled")
    inserted = highest_inserted(stack)
    secrets = dict(stack.secrets)
    stack.compose("down")
    del stack.secrets
    since_ms = now_ms()
    stack.up()
    assert stack.secrets == secrets
    stack.expect_events("agent_reported", "memory_sampled", since_ms=since_ms, limit_s=COME_BACK_S)
    assert stack.count("memory_sampled") > documents
    assert highest_inserted(stack) >= inserted > 0
    said = stack.compose("logs", "--no-color", "keys", "functions", "setup", "topics")
    assert '"written":0' in said
    assert '"made_keys":[]' in said
    assert '"changed":0' in said
    assert '"loaded":false' in said


def highest_inserted(stack: Stack) -> int:
    body = {"size": 0, "aggs": {"most": {"max": {"field": "replay_inserted_total"}}}}
    return int(stack.ask("/memory_monitoring-*/_search", body)["aggregations"]["most"]["value"] or 0)


@pytest.mark.parametrize("key", SHIPPER_KEYS, ids=lambda key: str(key.name))
def test_a_shippers_key_opens_our_indices_and_nothing_else(stack: Stack, key: ShipperKey) -> None:
    found = stack.ask(f"/_security/api_key?name={key.name}")["api_keys"]
    valid = [entry for entry in found if not entry["invalidated"]]
    assert len(valid) == 1
    role = valid[0]["role_descriptors"][key.name]
    assert sorted(role["cluster"]) == sorted(key.cluster)
    [indices] = role["indices"]
    assert indices["names"] == ["training_log-*", "memory_monitoring-*"]
    assert sorted(indices["privileges"]) == sorted(key.privileges)


def test_kafka_denies_an_agent_what_it_does_not_need(stack: Stack) -> None:
    agent = stack.containers("agent")[0]["Id"]
    said = stack.docker("exec", agent, "python", "-c", DELETE_TOPIC)
    assert said.split() == ["TopicAuthorizationFailedError"]


def test_every_container_has_a_limit_of_processes_and_no_proxy(stack: Stack) -> None:
    for container in stack.containers():
        assert container["HostConfig"]["PidsLimit"] > 0, container["Name"]
        proxies = [entry for entry in container["Config"]["Env"] if "_proxy=" in entry.lower()]
        assert {entry.partition("=")[2] for entry in proxies} == {"", "*"}, container["Name"]


def test_no_secret_is_seen_in_containers_images_or_logs(stack: Stack) -> None:
    shown = json.dumps(stack.containers())
    images = {container["Image"] for container in stack.containers()}
    for image in images:
        shown += stack.docker("image", "inspect", image) + stack.docker("history", "--no-trunc", image)
    shown += stack.compose("logs", "--no-color") + stack.compose("config")
    secrets = [stack.secrets[name] for name in SECRETS]
    assert all(len(secret) == 32 for secret in secrets)
    assert [secret for secret in secrets if secret in shown] == []


def test_no_container_is_root_or_writes_its_image_and_ports_are_local(stack: Stack) -> None:
    for container in stack.containers():
        host = container["HostConfig"]
        assert host["ReadonlyRootfs"], container["Name"]
        assert host["CapDrop"] == ["ALL"]
        assert host["Memory"] > 0
        if container["State"]["Running"]:
            assert stack.docker("exec", container["Id"], "id", "-u").strip() != "0", container["Name"]
        bindings = [binding for bound in (host["PortBindings"] or {}).values() for binding in bound]
        assert {binding["HostIp"] for binding in bindings} <= {"127.0.0.1"}


@pytest.mark.parametrize("service", ["monitor", "logshipper", "keys"])
def test_images_without_torch_are_small(stack: Stack, service: str) -> None:
    image = stack.containers(service)[0]["Image"]
    sizes = stack.docker("history", "--human=false", "--format", "{{.Size}} {{.CreatedBy}}", image)
    copied = re.findall(r"^(\d+) COPY /opt/borg", sizes, re.MULTILINE)
    assert len(copied) == 1
    assert int(copied[0]) < OWN_LAYERS_BYTES
    packages = stack.docker("run", "--rm", "--entrypoint", "ls", image, "/opt/borg/lib/python3.11/site-packages")
    assert "structlog" in packages.split()
    assert not {"torch", "numpy", "gymnasium"} & set(packages.split())
