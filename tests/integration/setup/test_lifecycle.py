"""How long Elasticsearch keeps events: what is asked, and what one without lifecycle management answers."""

from pathlib import Path

import orjson
import pytest

from borgcore.errors import ServerError
from borgcore.events.elasticsearch_templates import index_template
from borgcore.events.template_changes import list_changes
from borgcore.events.topics import TOPICS
from borgsetup.lifecycle import keep_events
from borgsetup.server import open_server
from borgsetup.store import prepare_store
from tests.sink import Answer, Sink

from .steps import KEYS, PREPARED, answered, settings_of


async def test_a_policy_deletes_indices_once_all_their_events_are_older(sink: Sink, tmp_path: Path) -> None:
    sink.answers += [*PREPARED[:-1], answered({}), answered({}), *KEYS]
    await prepare_store(settings_of(sink, tmp_path, retention_days=30))
    asked = {(request.method, request.target): orjson.loads(request.body or b"null") for request in sink.requests}
    delete = {"min_age": "61d", "actions": {"delete": {}}}  # an index is as old as the first day of its month
    assert asked["PUT", "/_ilm/policy/borg-events"] == {"policy": {"phases": {"delete": delete}}}
    named = {"lifecycle": {"name": "borg-events"}}
    assert asked["PUT", "/training_log-*,memory_monitoring-*/_settings"] == {"index": named}
    for topic in TOPICS:
        template = asked["PUT", f"/_index_template/{topic}"]
        assert template["template"]["settings"]["index"].items() >= named.items()
        assert list_changes(template, index_template(topic, "", 0)) == [], "a later start without one replaces it"


async def test_the_policy_of_an_earlier_start_is_removed(sink: Sink, tmp_path: Path) -> None:
    sink.answers += [*PREPARED[:-1], answered({"borg-events": {}}), answered({}), answered({}), *KEYS]
    await prepare_store(settings_of(sink, tmp_path))
    asked = [(request.method, request.target) for request in sink.requests]
    removed = [("POST", "/training_log-*,memory_monitoring-*/_ilm/remove"), ("DELETE", "/_ilm/policy/borg-events")]
    first = asked.index(("GET", "/_ilm/policy/borg-events"))
    assert asked[first + 1 : first + 3] == removed


async def test_a_refused_question_for_the_policy_is_not_taken_for_its_absence(sink: Sink, tmp_path: Path) -> None:
    sink.answers += [*PREPARED[:-1], Answer(409, b"{}")]
    with pytest.raises(ServerError, match=r"refused GET /_ilm/policy/borg-events \(409\)"):
        await prepare_store(settings_of(sink, tmp_path))


async def test_an_elasticsearch_without_lifecycle_management_keeps_all_or_says_so(
    sink: Sink, elasticsearch_url: str, tmp_path: Path
) -> None:
    async with open_server("Elasticsearch", elasticsearch_url, settings_of(sink, tmp_path)) as server:
        await keep_events(server, None)
        with pytest.raises(ServerError, match=r"refused PUT /_ilm/policy/borg-events \(400\): .*no handler found"):
            await keep_events(server, 30)
