from typing import Any

import anyio
import orjson
import pytest

from borgcore.eventstore.settings import StoreSettings
from borglogshipper.stores.open import open_store
from borglogshipper.stores.store import Store, StoreBusyError, StoreHeldError
from tests.limits import HANG_S
from tests.sink import Answer, Sink

CLUSTER = ["manage_index_templates"]
INDEX = ["create_doc", "read", "indices:admin/auto_create"]
NO_SECURITY = Answer(400, b'{"error":"no handler found for uri [/_security/user/_has_privileges] and method [POST]"}')


def version(number: str) -> Answer:
    return Answer(body=orjson.dumps({"version": {"number": number}}))


def grants(*missing: str, prefix: str = "") -> Answer:
    patterns = [f"{prefix}training_log-*", f"{prefix}memory_monitoring-*"]
    found: dict[str, Any] = {
        "username": "borg",
        "has_all_requested": not missing,
        "cluster": {name: f"cluster:{name}" not in missing for name in CLUSTER},
        "index": {pattern: {name: f"{pattern}:{name}" not in missing for name in INDEX} for pattern in patterns},
    }
    return Answer(body=orjson.dumps(found))


async def test_a_server_without_security_is_fine(scripted: Store, sink: Sink) -> None:
    sink.answers += [version("8.19.21"), NO_SECURITY]
    with anyio.fail_after(HANG_S):
        assert await scripted.check() == f"Elasticsearch 8.19.21 at {sink.address}, security is off"


async def test_a_user_with_every_privilege_is_named(sink: Sink) -> None:
    sink.answers += [version("8.0.0"), grants(prefix="team-")]
    with anyio.fail_after(HANG_S):
        async with open_store(StoreSettings(prefix="team-"), f"http://{sink.address}") as store:
            assert await store.check() == f"Elasticsearch 8.0.0 at {sink.address}, as borg"
    asked = orjson.loads(sink.requests[1].body)
    assert asked == {
        "cluster": CLUSTER,
        "index": [{"names": ["team-training_log-*", "team-memory_monitoring-*"], "privileges": INDEX}],
    }


async def test_who_installs_no_templates_needs_no_privilege_for_them(sink: Sink) -> None:
    sink.answers += [version("8.19.21"), grants("cluster:manage_index_templates")]
    with anyio.fail_after(HANG_S):
        async with open_store(StoreSettings(templates=False), f"http://{sink.address}") as store:
            assert (await store.check()).endswith(", as borg")
    assert orjson.loads(sink.requests[1].body)["cluster"] == []


async def test_who_may_not_see_the_version_is_refused_with_the_servers_reason(scripted: Store, sink: Sink) -> None:
    sink.answers.append(
        Answer(403, b'{"error":{"type":"security_exception","reason":"[cluster:monitor/main] is not"}}')
    )
    with anyio.fail_after(HANG_S), pytest.raises(StoreHeldError, match="cluster:monitor/main"):
        await scripted.check()


async def test_privileges_that_are_missing_are_named(scripted: Store, sink: Sink) -> None:
    missing = ["cluster:manage_index_templates", "training_log-*:read"]
    missing += ["training_log-*:indices:admin/auto_create"]
    sink.answers += [version("8.19.21"), grants(*missing)]
    with anyio.fail_after(HANG_S), pytest.raises(StoreHeldError) as held:
        await scripted.check()
    assert str(held.value) == (
        f"Elasticsearch at {sink.address} does not grant borg: cluster:manage_index_templates, training_log-*:read, "
        "training_log-*:auto_configure or create_index; all are needed"
    )


@pytest.mark.parametrize("number", ["8.0.0", "8.19.21", "9.0.0", "9.4.9"])
async def test_what_the_check_accepts_is_prepared(scripted: Store, sink: Sink, number: str) -> None:
    absent = Answer(404, b"{}")
    sink.answers += [version(number), NO_SECURITY, version(number), absent, Answer(), absent, Answer()]
    with anyio.fail_after(HANG_S):
        assert await scripted.check() == f"Elasticsearch {number} at {sink.address}, security is off"
        await scripted.prepare()
    assert [request.method for request in sink.requests] == ["GET", "POST", "GET", "GET", "PUT", "GET", "PUT"]


async def test_who_may_not_see_the_version_may_still_write(scripted: Store, sink: Sink) -> None:
    denied = Answer(403, b'{"error":{"type":"security_exception","reason":"unauthorized"},"status":403}')
    absent = Answer(404, b"{}")
    sink.answers += [denied, absent, Answer(), absent, Answer()]
    with anyio.fail_after(HANG_S):
        await scripted.prepare()


@pytest.mark.parametrize("number", ["7.17.29", "10.0.0", "2.4.0"])
async def test_what_the_check_holds_is_not_prepared(scripted: Store, sink: Sink, number: str) -> None:
    for ask in (scripted.check, scripted.prepare):
        sink.answers.append(version(number))
        with anyio.fail_after(HANG_S), pytest.raises(StoreHeldError) as held:
            await ask()
        assert str(held.value) == f"Elasticsearch at {sink.address} is {number}, expected version 8 or 9"
    assert [request.method for request in sink.requests] == ["GET", "GET"]


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"version":{"number":"new"}}', b"<html>"])
async def test_what_does_not_answer_as_elasticsearch_is_held(scripted: Store, sink: Sink, body: bytes) -> None:
    sink.answers.append(Answer(body=body))
    with (
        anyio.fail_after(HANG_S),
        pytest.raises(StoreHeldError, match="is not Elasticsearch: its answer to GET / names no version"),
    ):
        await scripted.check()


async def test_a_product_that_only_resembles_it_is_held(scripted: Store, sink: Sink) -> None:
    sink.answers.append(Answer(body=version("8.0.0").body, headers={"Content-Type": "application/json"}))
    naming = "is not Elasticsearch: it answered 200 without naming"
    with anyio.fail_after(HANG_S), pytest.raises(StoreHeldError, match=naming):
        await scripted.check()


@pytest.mark.parametrize(
    ("answer", "kind"),
    [(Answer(401, b"{}"), StoreHeldError), (Answer(503, b"{}"), StoreBusyError), (Answer(body=b"{}"), StoreBusyError)],
)
async def test_trouble_with_the_look_at_privileges_is_said(
    scripted: Store, sink: Sink, answer: Answer, kind: type[Exception]
) -> None:
    sink.answers += [version("8.19.21"), answer]
    with anyio.fail_after(HANG_S), pytest.raises(kind, match=f"^Elasticsearch at {sink.address} "):
        await scripted.check()
