import base64
import ssl
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import anyio
import orjson
import pytest
import trustme
from pydantic import SecretStr

from borgcore.eventstore.settings import StoreSettings
from borglogshipper.stores.open import open_store
from borglogshipper.stores.store import (
    Documents,
    Outcome,
    Store,
    StoreBusyError,
    StoreHeldError,
    StoreRefusedError,
    StoreTooLargeError,
)
from tests.limits import HANG_S
from tests.sink import PRODUCT, Answer, Sink, open_sink

INDEX = "training_log-2026.11"
TWO = Documents([INDEX, "memory_monitoring-2026.11"], ["a", "b"], [b'{"a":1}', b'{"b":2}'])
CREATED = b'{"errors":false,"items":[{"create":{"status":201}},{"create":{"status":201}}]}'
REFUSAL = b'{"error":{"type":"t","reason":"r"}}'
HTML = {"Content-Type": "text/html"}
JSON = {"Content-Type": "application/json"}
Call = Callable[[Store], Coroutine[Any, Any, object]]


async def test_documents_travel_in_one_request_as_they_are(scripted: Store, sink: Sink) -> None:
    sink.answers.append(Answer(body=CREATED))
    with anyio.fail_after(HANG_S):
        assert await scripted.write(TWO) == {}
    (request,) = sink.requests
    assert request.method == "POST"
    assert request.target == "/_bulk?filter_path=errors,items.*.status,items.*.error.type,items.*.error.reason"
    assert request.body == (
        b'{"create":{"_index":"training_log-2026.11","_id":"a"}}\n{"a":1}\n'
        b'{"create":{"_index":"memory_monitoring-2026.11","_id":"b"}}\n{"b":2}\n'
    )
    assert request.headers["Content-Type"] == "application/vnd.elasticsearch+x-ndjson; compatible-with=8"
    assert "Authorization" not in request.headers


async def test_a_large_request_and_a_warning_of_the_server_make_no_noise(scripted: Store, sink: Sink) -> None:
    body = b'{"pad":"%s"}' % (b"x" * 3_000_000)
    headers = PRODUCT | JSON | {"Warning": '299 Elasticsearch-8.19.0 "this is deprecated"'}
    sink.answers.append(Answer(body=b'{"errors":false,"items":[{"create":{"status":201}}]}', headers=headers))
    with anyio.fail_after(HANG_S):
        assert await scripted.write(Documents([INDEX], ["a"], [body])) == {}
    assert sink.requests[0].body.endswith(b'"_id":"a"}}\n%b\n' % body)


@pytest.mark.parametrize(
    ("settings", "header"),
    [
        ({"user": "borg", "password": SecretStr("hunter2")}, f"Basic {base64.b64encode(b'borg:hunter2').decode()}"),
        ({"api_key": SecretStr("aHVudGVyMg==")}, "ApiKey aHVudGVyMg=="),
    ],
)
async def test_credentials_are_sent_and_never_said(sink: Sink, settings: dict[str, Any], header: str) -> None:
    refusal = orjson.dumps({"error": {"type": "security_exception", "reason": "unable to authenticate"}})
    sink.answers.append(Answer(401, refusal))
    with anyio.fail_after(HANG_S):
        async with open_store(StoreSettings(**settings), f"http://{sink.address}/behind/a/proxy/") as store:
            with pytest.raises(StoreHeldError) as held:
                await store.write(TWO)
            said = f"{held.value!r} {store!r}"
    assert sink.requests[0].headers["Authorization"] == header
    assert sink.requests[0].target.startswith("/behind/a/proxy/_bulk?")
    where = f"Elasticsearch at {sink.address}/behind/a/proxy"
    assert str(held.value) == f"{where} answered 401 security_exception: unable to authenticate"
    assert "hunter2" not in said
    assert "aHVudGVyMg" not in said


@pytest.mark.parametrize(
    ("answer", "kind", "text"),
    [
        (
            Answer(200, b"<html>Sign in</html>", HTML),
            StoreHeldError,
            "is not Elasticsearch: it answered 200 without naming",
        ),
        (
            Answer(200, b"<html>Sign in</html>", PRODUCT | HTML),
            StoreBusyError,
            "answered _bulk with something else",
        ),
        (
            Answer(200, b'{"took":1}'),
            StoreBusyError,
            """_bulk with something else: '{"took":1}'; all documents are sent again""",
        ),
        (Answer(200, b"\x00\xff" * 9), StoreBusyError, "answered _bulk with something else"),
        (Answer(200, b""), StoreBusyError, "answered _bulk with something else: ''"),
        (Answer(200, CREATED[:40]), StoreBusyError, "answered _bulk with something else"),
        (
            Answer(200, b'{"errors":false,"items":[{"create":{"status":201}}]}'),
            StoreBusyError,
            "answered for 1 of 2 documents; all are sent again",
        ),
        (Answer(200, CREATED, PRODUCT | {"Content-Type": "image/png"}), None, ""),
        (Answer(302, b"", {"Location": "/elsewhere"}), StoreHeldError, "answered 404 'not here'"),
        (Answer(403, b"Forbidden", HTML), StoreHeldError, "answered 403 'Forbidden'"),
        (Answer(404, b'{"error":"no handler"}'), StoreHeldError, "answered 404 no handler"),
        (Answer(413, b"<html>Too large</html>", HTML), StoreTooLargeError, "answered 413 '<html>Too large</html>'"),
        (Answer(429, b'{"error":{"type":"t","reason":"r"}}'), StoreBusyError, "answered 429 t: r"),
        (Answer(500, b"\xff\xfe", {}), StoreBusyError, "answered 500 '"),
        (Answer(502, b"<html>\nBad Gateway</html>", HTML), StoreBusyError, "answered 502 '<html> Bad Gateway</html>'"),
        (Answer(503, b"", {}), StoreBusyError, "answered 503 ''"),
        (Answer(dropped=True), StoreBusyError, "cannot be reached: "),
    ],
)
async def test_an_answer_to_the_whole_request_is_said_with_address_status_and_reason_after_one_try(
    scripted: Store, sink: Sink, answer: Answer, kind: type[Exception] | None, text: str
) -> None:
    sink.answers += [answer, Answer(404, b"not here", HTML)]
    with anyio.fail_after(HANG_S):
        if kind is None:
            assert await scripted.write(TWO) == {}
        else:
            with pytest.raises(kind) as failed:
                await scripted.write(TWO)
            assert str(failed.value).startswith(f"Elasticsearch at {sink.address} ")
            assert text in str(failed.value)
            assert "\n" not in str(failed.value)
    assert [request.target.startswith("/_bulk") for request in sink.requests].count(True) == 1


@pytest.mark.parametrize(
    ("second", "kind", "text"),
    [
        (Answer(200, b'{"errors":true,"items":[{"create":{"status":400}}]}'), StoreRefusedError, "400 t: r"),
        (Answer(400, REFUSAL), StoreHeldError, "400 t: r; it also refuses a request without documents"),
        (Answer(413), StoreHeldError, "400 t: r; it also refuses a request without documents"),
        (Answer(400, b"<html>Bad Request</html>", HTML), StoreHeldError, "400 '<html>Bad Request</html>'"),
        (Answer(401, b'{"error":{"type":"t","reason":"r"}}'), StoreHeldError, "401 t: r"),
        (Answer(503, b"", {}), StoreBusyError, "503 ''"),
        (Answer(dropped=True), StoreBusyError, "cannot be reached"),
    ],
)
async def test_a_request_refused_as_a_whole_is_blamed_on_documents_only_where_one_without_any_is_taken(
    scripted: Store, sink: Sink, second: Answer, kind: type[Exception], text: str
) -> None:
    sink.answers += [Answer(400, REFUSAL), second]
    with anyio.fail_after(HANG_S), pytest.raises(kind) as failed:
        await scripted.write(TWO)
    assert type(failed.value) is kind
    assert text in str(failed.value)
    assert sink.requests[1].target == sink.requests[0].target
    assert sink.requests[1].body == b'{"create":{"_index":"training_log-2026.11","_id":"none"}}\n0\n'


async def test_no_answer_in_time_leaves_it_open_what_was_stored(sink: Sink) -> None:
    sink.answers.append(Answer(never=True))
    with anyio.fail_after(HANG_S):
        async with open_store(StoreSettings(timeout_s=2.0), f"http://{sink.address}") as store:
            with pytest.raises(StoreBusyError) as busy:
                await store.write(TWO)
    assert str(busy.value) == f"Elasticsearch at {sink.address} gave no answer in time (2 s)"
    assert len(sink.requests) == 1


async def test_a_server_that_is_not_there_is_said_to_be_unreachable_and_found_once_it_is(
    unused_port: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with anyio.fail_after(HANG_S):
        async with open_store(StoreSettings(), f"http://127.0.0.1:{unused_port}") as store:
            calls: list[Call] = [
                lambda store: store.write(TWO),
                lambda store: store.check(),
                lambda store: store.prepare(),
                lambda store: store.read([INDEX], ["a"]),
            ]
            for call in calls:
                with pytest.raises(
                    StoreBusyError, match=f"^Elasticsearch at 127.0.0.1:{unused_port} cannot be reached"
                ):
                    await call(store)
    assert capsys.readouterr().err == ""


async def test_items_are_judged_one_by_one(scripted: Store, sink: Sink) -> None:
    items = [
        {"create": {"status": 201}},
        {"create": {"status": 429, "error": {"type": "es_rejected_execution_exception", "reason": "queue full"}}},
    ]
    sink.answers.append(Answer(body=orjson.dumps({"errors": True, "items": items})))
    with anyio.fail_after(HANG_S):
        verdicts = await scripted.write(TWO)
    assert list(verdicts) == [1]
    assert verdicts[1].outcome is Outcome.BUSY
    assert verdicts[1].reason == ("memory_monitoring-2026.11 answered 429 es_rejected_execution_exception: queue full")


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (Answer(body=b'{"docs":[]}'), "answered for 0 of 1 ids; it is asked again"),
        (Answer(body=b'{"docs":[{"found":true}]}'), "answered _mget with something else; it is asked again"),
        (Answer(body=b"{}"), "answered _mget with something else; it is asked again"),
        (Answer(body=b"<html>"), "answered _mget with something else; it is asked again"),
    ],
)
async def test_what_is_no_answer_to_a_look_is_asked_again(
    scripted: Store, sink: Sink, answer: Answer, text: str
) -> None:
    sink.answers.append(answer)
    with anyio.fail_after(HANG_S), pytest.raises(StoreBusyError) as busy:
        await scripted.read([INDEX], ["a"])
    assert str(busy.value) == f"Elasticsearch at {sink.address} {text}"


@pytest.mark.parametrize("status", [400, 413])
async def test_a_template_that_is_refused_waits_for_a_person(scripted: Store, sink: Sink, status: int) -> None:
    sink.answers += [
        Answer(body=b'{"version":{"number":"8.0.0"}}'),
        Answer(status, b'{"error":{"type":"t","reason":"r"}}'),
    ]
    with anyio.fail_after(HANG_S), pytest.raises(StoreHeldError, match=f"answered {status} t: r$"):
        await scripted.prepare()
    assert sink.requests[1].target == "/_index_template/training_log"


@pytest.mark.parametrize("body", [b"<html>", b"[]", b'{"index_templates":[{}]}'])
async def test_an_answer_that_is_no_template_is_asked_for_again(scripted: Store, sink: Sink, body: bytes) -> None:
    sink.answers += [Answer(body=b'{"version":{"number":"8.19.21"}}'), Answer(body=body)]
    with anyio.fail_after(HANG_S), pytest.raises(StoreBusyError) as busy:
        await scripted.prepare()
    assert str(busy.value) == (
        f"Elasticsearch at {sink.address} answered _index_template with something else; it is asked again"
    )


async def test_tls_needs_the_authority_that_signed_and_a_name_that_fits(tmp_path: Path) -> None:
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    ca_file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(ca_file)
    with anyio.fail_after(HANG_S):
        async with open_sink(context) as sink:
            async with open_store(StoreSettings(), f"https://{sink.address}") as distrustful:
                with pytest.raises(StoreHeldError, match=f"^Elasticsearch at {sink.address} cannot be trusted: "):
                    await distrustful.write(TWO)
            assert sink.requests == []
            sink.answers.append(Answer(body=CREATED))
            async with open_store(StoreSettings(ca_file=ca_file), f"https://{sink.address}") as store:
                assert await store.write(TWO) == {}
            async with open_store(StoreSettings(ca_file=ca_file), f"https://localhost:{sink.port}") as misnamed:
                with pytest.raises(StoreHeldError, match="cannot be trusted: "):
                    await misnamed.write(TWO)
