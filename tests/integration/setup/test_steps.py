"""The steps against a server that answers as it is told; tests/compose takes them on a real Elasticsearch."""

import base64
import ssl
import stat
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import orjson
import pytest
import trustme
from anyio import to_thread
from pydantic import SecretStr
from structlog.testing import capture_logs

from borgcore.errors import ServerError, SettingsError
from borgcore.events.elasticsearch_templates import index_template
from borgcore.events.template_changes import list_changes
from borgcore.events.topics import TOPICS
from borgsetup.dashboard import import_dashboard
from borgsetup.kibana.objects import DASHBOARD, ndjson, saved_objects
from borgsetup.server import open_server
from borgsetup.settings import SetupSettings
from borgsetup.store import LOGSHIPPER, LOGSTASH, SHIPPER_KEYS, ShipperKey, prepare_store
from tests.limits import HANG_S
from tests.sink import Answer, Sink, open_sink

LOGIN = "Basic " + base64.b64encode(b"elastic:of-elastic").decode()
OBJECTS = ndjson().count(b"\n")


def settings_of(sink: Sink, keys_dir: Path, **more: object) -> SetupSettings:
    url = f"http://{sink.address}"
    given = {"elastic_password": "of-elastic", "kibana_password": "of-kibana", "user_password": "of-people"}
    return SetupSettings.model_validate(
        {"step": "store", "elasticsearch_url": url, "kibana_url": url, "keys_dir": keys_dir, "wait_s": HANG_S}
        | {name: SecretStr(word) for name, word in given.items()}
        | more
    )


def answered(document: object) -> Answer:
    return Answer(body=orjson.dumps(document))


ABSENT = Answer(404, b"{}")
TOPIC = [ABSENT, answered({}), answered({})]  # its template is found missing and installed, and its index is made
PREPARED = [
    answered({"version": {"number": "8.19.21"}}),
    answered({}),
    ABSENT,
    answered({}),
    *TOPIC * len(TOPICS),
    ABSENT,
]
KEY = [answered({"invalidated_api_keys": []}), answered({"id": "id", "api_key": "word"})]
KEYS = KEY * len(SHIPPER_KEYS)


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


async def test_a_server_that_is_not_up_yet_is_waited_for(sink: Sink, tmp_path: Path) -> None:
    sink.answers += [Answer(dropped=True), Answer(503), Answer(429), *PREPARED, *KEYS]
    await prepare_store(settings_of(sink, tmp_path))
    assert [request.target for request in sink.requests[:4]] == ["/"] * 4


async def test_a_server_that_stays_away_is_one_line(sink: Sink, tmp_path: Path) -> None:
    sink.answers += [Answer(503)] * 100
    with pytest.raises(ServerError) as caught:
        await prepare_store(settings_of(sink, tmp_path, wait_s=2.0))
    assert str(caught.value) == (
        f"Elasticsearch at http://{sink.address} was not up within 2 s: it answered 503; start this step again "
        "when it is"
    )


async def test_a_refused_password_says_that_data_and_keys_belong_together(sink: Sink, tmp_path: Path) -> None:
    sink.answers += [Answer(401)]
    with pytest.raises(ServerError) as caught:
        await prepare_store(settings_of(sink, tmp_path))
    assert str(caught.value) == (
        f"Elasticsearch at http://{sink.address} refused us (401); it was probably first started with other keys: data "
        "and keys belong together, restore the keys or remove both volumes; if Elasticsearch is new, its disk is "
        "probably too full for the index of its users: see its log and free some space"
    )


async def test_what_a_server_refuses_is_said_with_its_reason_and_without_our_secrets(
    sink: Sink, tmp_path: Path
) -> None:
    sink.answers += [PREPARED[0], Answer(400, b'{"error": "no such user"}')]
    with pytest.raises(ServerError) as caught:
        await prepare_store(settings_of(sink, tmp_path))
    assert str(caught.value) == (
        f"Elasticsearch at http://{sink.address} refused POST /_security/user/kibana_system/_password (400): "
        '{"error": "no such user"}'
    )


@pytest.mark.parametrize("missing", ["elastic_password", "kibana_password", "user_password"])
async def test_without_a_password_nothing_is_done(sink: Sink, tmp_path: Path, missing: str) -> None:
    with pytest.raises(SettingsError, match=missing):
        await prepare_store(settings_of(sink, tmp_path, **{missing: None}))
    assert sink.requests == []


async def test_an_answer_larger_than_any_that_is_expected_is_refused(sink: Sink, tmp_path: Path) -> None:
    sink.answers += [Answer(body=b" " * 2_000_000)]
    with pytest.raises(ServerError, match="has over 1,048,576 bytes"):
        await prepare_store(settings_of(sink, tmp_path))


async def test_a_server_with_a_certificate_of_another_authority_is_not_spoken_to(tmp_path: Path) -> None:
    context, authority = trustme.CA(), trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.crt")
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.issue_cert("127.0.0.1").configure_cert(server)
    async with open_sink(server) as sink:
        url = f"https://{sink.address}"
        settings = settings_of(sink, tmp_path, elasticsearch_url=url, ca_file=tmp_path / "ca.crt")
        with pytest.raises(ServerError, match="cannot be trusted"):
            await prepare_store(settings)
        assert sink.requests == []


async def test_password_and_authority_are_read_again_before_each_request(tmp_path: Path) -> None:
    old, new = trustme.CA(), trustme.CA()
    server, ca_file, password = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), tmp_path / "ca.crt", tmp_path / "secrets"
    old.issue_cert("127.0.0.1").configure_cert(server)
    old.cert_pem.write_to_path(ca_file)
    password.mkdir()
    (password / "borg_setup_elastic_password").write_text("one")
    options = ("store", "--ca-file", str(ca_file), "--secrets-dir", str(password))
    settings = await to_thread.run_sync(SetupSettings.load, options)
    async with open_sink(server) as sink:
        sink.answers += [answered({}), answered({})]
        async with open_server("Elasticsearch", f"https://{sink.address}", settings) as asked:
            await asked.ask("GET", "/")
            new.issue_cert("127.0.0.1").configure_cert(server)
            new.cert_pem.write_to_path(ca_file)
            (password / "borg_setup_elastic_password").write_text("two")
            await asked.ask("GET", "/")
        logins = [request.headers["Authorization"].removeprefix("Basic ") for request in sink.requests]
    assert [base64.b64decode(login) for login in logins] == [b"elastic:one", b"elastic:two"]


async def test_a_file_that_is_no_authority_is_one_line(sink: Sink, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=f"ca_file: {tmp_path}/none cannot be read as a PEM certificate authority"):
        await prepare_store(settings_of(sink, tmp_path, ca_file=tmp_path / "none"))


FOUND = {"created_at": "2026-11-20T10:00:00.000Z", "updated_at": "2026-11-20T10:00:00.000Z"}
MISSING = {"error": {"statusCode": 404}}


def found(**states: Mapping[str, object]) -> Answer:
    ids = [(one["type"], one["id"]) for one in saved_objects()]
    return answered(
        {"saved_objects": [{"type": type_, "id": id_, **states.get(id_, states["others"])} for type_, id_ in ids]}
    )


@pytest.mark.parametrize("others", [MISSING, FOUND], ids=["first start", "unchanged"])
async def test_the_dashboard_is_imported_over_what_is_there(
    sink: Sink, tmp_path: Path, others: dict[str, object]
) -> None:
    sink.answers += [
        Answer(503, b"Kibana server is not ready yet"),
        found(others=others),
        answered({"success": True, "successCount": OBJECTS}),
    ]
    await import_dashboard(settings_of(sink, tmp_path))
    asked = sink.requests[-1]
    assert (asked.method, asked.target) == ("POST", "/api/saved_objects/_import?overwrite=true")
    assert asked.headers["kbn-xsrf"]
    assert asked.headers["Authorization"] == LOGIN
    assert asked.headers["Content-Type"].startswith("multipart/form-data")
    assert ndjson() in asked.body
    assert b'filename="objects.ndjson"' in asked.body


async def test_a_dashboard_that_was_changed_in_kibana_is_kept_and_logged(sink: Sink, tmp_path: Path) -> None:
    changed = FOUND | {"updated_at": "2026-11-27T08:30:00.000Z"}
    sink.answers += [
        found(others=FOUND, **{DASHBOARD: changed}),
        answered({"success": True, "successCount": OBJECTS - 1}),
    ]
    with capture_logs() as logs:
        await import_dashboard(settings_of(sink, tmp_path))
    assert (sink.requests[0].method, sink.requests[0].target) == ("POST", "/api/saved_objects/_bulk_get")
    assert {"type": "dashboard", "id": DASHBOARD} in orjson.loads(sink.requests[0].body)
    assert ndjson(without=[DASHBOARD]) in sink.requests[1].body
    assert b'"type":"dashboard"' not in sink.requests[1].body
    (kept,) = (line for line in logs if line["event"] == "saved_object_kept")
    assert (kept["log_level"], kept["id"], kept["changed_at"]) == ("warning", DASHBOARD, "2026-11-27T08:30:00.000Z")


async def test_if_every_object_was_changed_in_kibana_nothing_is_imported(sink: Sink, tmp_path: Path) -> None:
    sink.answers += [found(others=FOUND | {"updated_at": "2026-11-27T08:30:00.000Z"})]
    await import_dashboard(settings_of(sink, tmp_path))
    assert len(sink.requests) == 1


async def test_a_reply_that_names_fewer_objects_is_a_failure_with_its_reasons(sink: Sink, tmp_path: Path) -> None:
    errors = [{"id": "borg-dqn-training", "error": {"type": "missing_references"}}]
    sink.answers += [found(others=MISSING)]
    sink.answers += [answered({"success": False, "successCount": OBJECTS - 1, "errors": errors})]
    with pytest.raises(ServerError) as caught:
        await import_dashboard(settings_of(sink, tmp_path))
    assert str(caught.value) == (
        f"Kibana took {OBJECTS - 1} of {OBJECTS} saved objects: borg-dqn-training: {{'type': 'missing_references'}}; "
        "what it had before is still there"
    )
