"""What needs images that only Docker's registry has: Kibana and Logstash."""

import urllib.request
from base64 import b64encode
from typing import Any

import pytest

from tests.compose.stack import Stack, now_ms, read_json

START_S = 1_200
MOST_DOCUMENTS = 10_000  # that one search returns

pytestmark = pytest.mark.timeout(3_600)


@pytest.fixture
def official(stack: Stack) -> Stack:
    if stack.standins:
        pytest.skip("no Kibana and no Logstash on stand-in images: set TEST_BORG_COMPOSE=official")
    return stack


def ask_kibana(stack: Stack, path: str) -> Any:
    login = b64encode(f"borg:{stack.secrets['borg_setup_user_password']}".encode()).decode()
    url = f"http://127.0.0.1:{stack.ports['KIBANA_PORT']}{path}"
    request = urllib.request.Request(url, headers={"Authorization": f"Basic {login}"})
    return read_json(request)


def test_people_find_one_dashboard_however_often_it_was_brought(official: Stack) -> None:
    official.compose("up", "--detach", "dashboard")
    official.expect(
        "the dashboard imported",
        lambda: "dashboard_imported" in official.compose("logs", "--no-color", "dashboard"),
        START_S,
    )
    official.compose("run", "--rm", "--no-deps", "dashboard")
    found = ask_kibana(official, "/api/saved_objects/_find?type=dashboard&per_page=100")
    assert [entry["id"] for entry in found["saved_objects"]] == ["borg-dqn-training"]


def test_logstash_writes_the_documents_that_the_logshipper_writes(official: Stack) -> None:
    """Both read the same topics from the beginning; the logshipper's documents are moved out of the way first.

    Logstash is killed on the way: what was in its queue is stored nevertheless.
    """
    official.compose("stop", "agent", "monitor")
    official.expect_events("run_ended", since_ms=now_ms() - 60_000, limit_s=START_S)
    official.compose("stop", "logshipper")
    ours = documents(official)
    assert ours
    for index in {index for index, _ in ours}:
        delete(official, index)
    official.compose("--profile", "logstash", "up", "--detach", "--no-deps", "logstash")
    official.expect("a first document", lambda: bool(documents(official)), START_S)
    official.crash("logstash")
    official.expect_healthy(["logstash"], START_S)
    official.expect("the same documents", lambda: ours.keys() <= documents(official).keys(), START_S)
    found = documents(official)  # and the logshipper's last events, which it could not ship itself
    assert {place: found[place] for place in ours} == ours
    official.compose("--profile", "logstash", "rm", "--stop", "--force", "logstash")
    official.up()


def documents(stack: Stack) -> dict[tuple[str, str], Any]:
    """Every document by index and id."""
    body = {"size": MOST_DOCUMENTS, "query": {"match_all": {}}}
    hits = stack.ask("/training_log-*,memory_monitoring-*/_search?ignore_unavailable=true", body)["hits"]["hits"]
    assert len(hits) < MOST_DOCUMENTS
    return {(hit["_index"], hit["_id"]): hit["_source"] for hit in hits}


def delete(stack: Stack, index: str) -> None:
    stack.ask(f"/{index}", method="DELETE")
