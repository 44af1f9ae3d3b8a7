from typing import Any

import orjson
import pytest

from borglogshipper.stores.answers import read_error, read_verdicts
from borglogshipper.stores.store import (
    Outcome,
    StoreBusyError,
    StoreHeldError,
    StoreRefusedError,
    StoreTooLargeError,
    Verdict,
)

WHERE = "Elasticsearch at store:9200"
INDEX = "training_log-2026.11"


def item(status: int, kind: str = "", reason: str = "") -> dict[str, Any]:
    return {"create": {"status": status} | ({"error": {"type": kind, "reason": reason}} if kind else {})}


def answer(*items: dict[str, Any], errors: bool = True) -> bytes:
    return orjson.dumps({"errors": errors, "items": items})


def judge(status: int, kind: str = "", reason: str = "") -> Verdict:
    verdicts = read_verdicts(answer(item(201), item(status, kind, reason)), [INDEX, INDEX], "a-", WHERE)
    assert list(verdicts) == [1]
    return verdicts[1]


@pytest.mark.parametrize(
    ("status", "kind", "reason", "outcome"),
    [
        (409, "version_conflict_engine_exception", "document already exists", Outcome.PRESENT),
        (429, "es_rejected_execution_exception", "queue is full", Outcome.BUSY),
        (429, "cluster_block_exception", "disk usage exceeded flood-stage watermark", Outcome.HELD),
        (408, "", "", Outcome.BUSY),
        (503, "cluster_block_exception", "blocked by: [SERVICE_UNAVAILABLE/2/no master]", Outcome.BUSY),
        (500, "illegal_state_exception", "", Outcome.BUSY),
        (503, "unavailable_shards_exception", "primary shard is not active", Outcome.BUSY),
        (401, "security_exception", "missing authentication credentials", Outcome.HELD),
        (403, "cluster_block_exception", "index [x] blocked by: [FORBIDDEN/8/index write (api)]", Outcome.HELD),
        (403, "security_exception", "action is unauthorized", Outcome.HELD),
        (404, "index_not_found_exception", "no such index [x]", Outcome.HELD),
        (405, "unheard_of_exception", "", Outcome.HELD),
        (413, "too_large", "", Outcome.REFUSED),
        (400, "document_parsing_exception", "failed to parse field [loss] of type [double]", Outcome.REFUSED),
        (400, "mapper_parsing_exception", "failed to parse field [loss] of type [double]", Outcome.REFUSED),
        (400, "mapper_parsing_exception", "Failed to parse mapping: unknown type [x]", Outcome.HELD),
        (400, "illegal_argument_exception", "Limit of total fields [1000] has been exceeded", Outcome.REFUSED),
        (400, "illegal_argument_exception", "no write index is defined for alias [x].", Outcome.HELD),
        (400, "illegal_argument_exception", "pipeline with id [x] does not exist", Outcome.HELD),
        (400, "illegal_argument_exception", "Number of documents in the index can't exceed [2147483519]", Outcome.HELD),
        (400, "illegal_argument_exception", "this cluster has [1]/[1] maximum index shards open;", Outcome.HELD),
        (400, "validation_exception", "this cluster has [9]/[9] maximum normal shards open;", Outcome.HELD),
        (400, "index_closed_exception", "closed", Outcome.HELD),
        (400, "invalid_index_name_exception", "must be lowercase", Outcome.HELD),
        (400, "routing_missing_exception", "routing is required", Outcome.HELD),
    ],
)
def test_a_document_is_refused_only_for_its_own_fault(status: int, kind: str, reason: str, outcome: Outcome) -> None:
    verdict = judge(status, kind, reason)
    assert verdict.outcome is outcome
    if outcome is not Outcome.PRESENT:
        assert verdict.reason == f"a-{INDEX} answered {status} {kind}: {reason}".strip()


def test_a_reason_is_one_line_of_bounded_length() -> None:
    reason = judge(400, "document_parsing_exception", "a\nb" + "x" * 1000).reason
    assert reason.startswith(f"a-{INDEX} answered 400 document_parsing_exception: a bxxx")
    assert len(reason) == 300
    assert reason.endswith("…")


def test_documents_that_were_all_created_have_no_verdicts_however_the_answer_is_spaced() -> None:
    found = {"errors": False, "items": [item(201)] * 3}
    for text in (orjson.dumps(found), orjson.dumps(found, option=orjson.OPT_INDENT_2), answer(item(201), item(200))):
        assert read_verdicts(text, [INDEX] * (2 if b"200" in text else 3), "", WHERE) == {}


def test_verdicts_are_keyed_by_the_rows_of_their_documents() -> None:
    items = [item(201), item(409, "c"), item(201), item(429, "r", "later"), item(400, "p", "no")]
    verdicts = read_verdicts(answer(*items), [INDEX, INDEX, "b", "c", "d"], "", WHERE)
    assert verdicts == {
        1: Verdict(Outcome.PRESENT),
        3: Verdict(Outcome.BUSY, "c answered 429 r: later"),
        4: Verdict(Outcome.REFUSED, "d answered 400 p: no"),
    }


@pytest.mark.parametrize("items", [[], [item(201)], [item(201)] * 3])
@pytest.mark.parametrize("errors", [True, False])
def test_an_answer_for_more_or_fewer_documents_is_not_accepted(items: list[dict[str, Any]], errors: bool) -> None:
    with pytest.raises(StoreBusyError) as unclear:
        read_verdicts(answer(*items, errors=errors), [INDEX] * 2, "", WHERE)
    assert str(unclear.value) == f"{WHERE} answered for {len(items)} of 2 documents; all are sent again"


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b'{"errors":true}',
        b'{"errors":true,"items":null}',
        b'{"errors":true,"items":[{}]}',
        b'{"errors":true,"items":[[]]}',
        b'{"errors":true,"items":[{"create":{}}]}',
        b'{"errors":true,"items":[{"create":{"status":"400"}}]}',
        b'{"errors":true,"items":[{"create":{"status":400,"error":"text"}}]}',
        b'{"errors":false,"items":[{"create":{"status":201}}',
        b"<html>\xff</html>",
    ],
)
def test_another_answer_to_bulk_leaves_it_unknown_what_was_stored(text: bytes) -> None:
    with pytest.raises(StoreBusyError) as unclear:
        read_verdicts(text, [INDEX], "", WHERE)
    assert str(unclear.value).startswith(f"{WHERE} answered _bulk with something else: '")
    assert str(unclear.value).endswith("'; all documents are sent again")


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, StoreRefusedError),
        (401, StoreHeldError),
        (403, StoreHeldError),
        (404, StoreHeldError),
        (405, StoreHeldError),
        (408, StoreBusyError),
        (413, StoreTooLargeError),
        (429, StoreBusyError),
        (500, StoreBusyError),
        (502, StoreBusyError),
        (503, StoreBusyError),
    ],
)
def test_an_answer_to_a_whole_request_is_an_error_with_status_and_reason(status: int, kind: type[Exception]) -> None:
    body = orjson.dumps({"error": {"type": "some_exception", "reason": "this\nand that"}, "status": status})
    error = read_error(status, body, WHERE)
    assert type(error) is kind
    assert str(error) == f"{WHERE} answered {status} some_exception: this and that"


@pytest.mark.parametrize(("status", "kind"), [(429, StoreHeldError), (503, StoreBusyError)])
def test_a_block_needs_a_person_unless_it_is_the_servers_own_start(status: int, kind: type[Exception]) -> None:
    body = orjson.dumps({"error": {"type": "cluster_block_exception", "reason": "blocked"}, "status": status})
    assert type(read_error(status, body, WHERE)) is kind


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b'{"error":"no handler found"}', "no handler found"),
        (b"<html>\n<b>Bad Gateway</b>" + b"x" * 100, "'<html> <b>Bad Gateway</b>" + "x" * 54 + "…'"),
        (b"", "''"),
        (None, "''"),
        (b'{"error":{}}', """'{"error":{}}'"""),
        (b"[1]", "'[1]'"),
    ],
)
def test_a_proxys_answer_is_quoted_in_short(body: object, text: str) -> None:
    assert str(read_error(502, body, WHERE)) == f"{WHERE} answered 502 {text}"


@pytest.mark.parametrize("body", [b"<html>400 Bad Request</html>", b"", b"[1]", b'"error"', b"null", None])
def test_a_proxys_400_is_no_documents_fault(body: object) -> None:
    assert type(read_error(400, body, WHERE)) is StoreHeldError
