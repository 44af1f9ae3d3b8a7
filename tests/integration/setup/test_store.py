"""What the step ``store`` asks of Elasticsearch; tests/compose takes it on a real one."""

import base64
import stat
from datetime import UTC, datetime
from pathlib import Path

import orjson
import pytest

from borgcore.events.elasticsearch_templates import index_template
from borgcore.events.topics import TOPICS
from borgsetup.store import LOGSHIPPER, LOGSTASH, SHIPPER_KEYS, ShipperKey, prepare_store
from tests.sink import Answer, Sink

from .steps import KEY, KEYS, LOGIN, PREPARED, answered, settings_of


async def test_the_store_gets_kibanas_password_a_user_templates_and_a_key_for_each_shipper(
    sink: Sink, tmp_path: Path
) -> None:
    sink.answers += [*PREPARED, *KEYS]
    month = datetime.now(UTC)
    await prepare_store(settings_of(sink, tmp_path))
    asked = [(request.method, request.target, orjson.loads(request.body or b"null")) for request in sink.requests]
    made = [
        request
        for key in SHIPPER_KEYS
        for request in (
            ("DELETE", "/_security/api_key", {"name": key.name, "owner": True}),
            ("POST", "/_security/api_key", {"name": key.name, "role_descriptors": {key.name: key.role}}),
        )
    ]
    assert asked == [
        ("GET", "/", None),
        ("POST", "/_security/user/kibana_system/_password", {"password": "of-kibana"}),
        ("GET", "/_security/user/borg", None),
        ("PUT", "/_security/user/borg", {"password": "of-people", "roles": ["editor"], "full_name": "Borg-DQN"}),
        *[
            request
            for topic in TOPICS
            for request in (
                ("GET", f"/_index_template/{topic}", None),
                ("PUT", f"/_index_template/{topic}", index_template(topic, "", 0)),
                ("PUT", f"/{topic}-{month:%Y.%m}", None),
            )
        ],
        ("GET", "/_ilm/policy/borg-events", None),
        *made,
    ]
    assert {request.headers["Authorization"] for request in sink.requests} == {LOGIN}


def test_a_shippers_key_creates_documents_in_our_indices_and_does_nothing_else() -> None:
    """The logshipper reads a duplicate to compare it, and its --check-config asks for the version."""
    indices = ["training_log-*", "memory_monitoring-*"]
    creating = ["create_doc", "indices:admin/auto_create"]  # the second: the index of a new month
    assert LOGSHIPPER.role["cluster"] == ["cluster:monitor/main"]
    assert LOGSTASH.role["cluster"] == ["cluster:monitor/main", "cluster:monitor/xpack/license/get"]
    for key, privileges in ((LOGSHIPPER, [*creating, "read"]), (LOGSTASH, creating)):
        [entry] = key.role["index"]
        assert entry["names"] == indices
        assert sorted(entry["privileges"]) == sorted(privileges)
        assert key.role.keys() == {"cluster", "index"}


async def test_each_key_is_written_for_its_shipper_and_only_its_owner_may_read_it(sink: Sink, tmp_path: Path) -> None:
    sink.answers += [*PREPARED, *KEYS]
    await prepare_store(settings_of(sink, tmp_path))
    encoded, pair = tmp_path / LOGSHIPPER.file, tmp_path / LOGSTASH.file
    assert pair.read_text() == "id:word"
    assert base64.b64decode(encoded.read_text()) == b"id:word"
    assert {stat.S_IMODE(path.stat().st_mode) for path in (encoded, pair)} == {0o400}


@pytest.mark.parametrize("key", SHIPPER_KEYS, ids=lambda key: str(key.name))
@pytest.mark.parametrize("case", ["ours", "another's", "expired"])
async def test_a_key_that_is_still_taken_stays(sink: Sink, tmp_path: Path, key: ShipperKey, case: str) -> None:
    path = tmp_path / key.file
    path.parent.mkdir()
    path.write_text("aWQ6d29yZA==" if key.encoded else "id:word")
    before = path.read_text()
    answers = {
        "ours": answered({"api_key": {"name": key.name}}),
        "another's": answered({"api_key": {"name": "another"}}),
    }
    answer = answers.get(case, Answer(401, b'{"error": "expired"}'))
    new = [KEY[0], answered({"id": "new", "api_key": "word"})]
    ours = [answer, *([] if case == "ours" else new)]
    sink.answers += [*PREPARED, *(ours + KEY if key is SHIPPER_KEYS[0] else KEY + ours)]
    await prepare_store(settings_of(sink, tmp_path))
    assert (path.read_text() == before) is (case == "ours")
    asked = next(request for request in sink.requests if request.target == "/_security/_authenticate")
    assert asked.headers["Authorization"] == "ApiKey aWQ6d29yZA=="
