"""Interpret Elasticsearch's answers: which documents are refused, and which can be sent again."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from borgcore.errors import BorgError
from borglogshipper.stores.store import (
    Outcome,
    StoreBusyError,
    StoreHeldError,
    StoreRefusedError,
    StoreTooLargeError,
    Verdict,
)

LONGEST_REASON = 300
_OK, _CREATED, _BAD_REQUEST, _TIMEOUT, _CONFLICT, _TOO_LARGE, _TOO_MANY = 200, 201, 400, 408, 409, 413, 429
_SERVER_ERROR = 500
_BLOCK = "cluster_block_exception"
_NO_ERRORS, _CREATED_ITEM = b'{"errors":false,"items":[', b'{"create":{"status":201}}'
_FIXABLE_TYPES = frozenset(
    {
        "index_closed_exception",
        "invalid_alias_name_exception",
        "invalid_index_name_exception",
        "invalid_index_template_exception",
        "resource_already_exists_exception",  # two writers created it at once: it exists on the next try
        "routing_missing_exception",  # a foreign mapping requires one
        "validation_exception",  # raised on creating the index, for example by the limit of open shards
    }
)
"""Types of a status 400 that concern the index or the cluster, not the document."""
_is_fixable_reason = re.compile(
    r"maximum [a-z ]*shards open"  # the limit of open shards, as a type of its own in newer servers
    r"|^no write index is defined for alias"
    r"|^pipeline with id \[.*\] does not exist"
    r"|^number of documents in "  # a shard is full
    r"|^failed to parse mapping"  # of a template, while creating the index
    r"|^index \[.*\] (?:is closed|has been closed)",
    re.IGNORECASE,
).search
"""The same for types that are also used for documents."""


def read_verdicts(answer: bytes, indices: Sequence[str], prefix: str, where: str) -> dict[int, Verdict]:
    """Judge the items of a ``_bulk`` answer, one per index of ``indices``, which have ``prefix`` in the store.

    Raises:
        StoreBusyError: it is not an answer to ``_bulk``, so it is unknown what was stored.
    """
    if answer.startswith(_NO_ERRORS) and answer.endswith(b"]}") and answer.count(_CREATED_ITEM) == len(indices):
        return {}  # not parsed: that would cost twice as much as everything else done for a document here
    try:
        found = orjson.loads(answer)
        failed, items = found["errors"], found["items"]
        if len(items) != len(indices):
            raise StoreBusyError(f"{where} answered for {len(items)} of {len(indices)} documents; all are sent again")
        if failed is False:
            return {}
        outcomes = [next(iter(item.values())) for item in items]
        return {
            row: _judge(outcome["status"], outcome.get("error"), prefix + indices[row])
            for row, outcome in enumerate(outcomes)
            if not _OK <= outcome["status"] <= _CREATED
        }
    except (ValueError, KeyError, TypeError, AttributeError, StopIteration):
        raise StoreBusyError(
            f"{where} answered _bulk with something else: {_one_line(answer)}; all documents are sent again"
        ) from None


def _judge(status: int, error: Mapping[str, Any] | None, index: str) -> Verdict:
    if status == _CONFLICT:
        return Verdict(Outcome.PRESENT)
    kind, reason = ("", "") if error is None else (str(error.get("type", "")), str(error.get("reason", "")))
    if _is_temporary(status, kind):
        outcome = Outcome.BUSY
    elif status == _TOO_LARGE or (
        status == _BAD_REQUEST and kind not in _FIXABLE_TYPES and not _is_fixable_reason(reason)
    ):
        outcome = Outcome.REFUSED
    else:
        outcome = Outcome.HELD
    return Verdict(outcome, _shorten(f"{index} answered {status} {kind}: {reason}"))


def read_error(status: int, body: object, where: str) -> BorgError:
    """Return the error for an answer to a whole request."""
    text, error = f"{where} answered {status} {_describe(body)}", _find_error(body)
    if _is_temporary(status, error.get("type") if isinstance(error, dict) else None):
        return StoreBusyError(text)
    if status == _TOO_LARGE:
        return StoreTooLargeError(text)
    if status == _BAD_REQUEST and error is not None:
        return StoreRefusedError(text)
    return StoreHeldError(text)  # or a proxy's 400, which no document causes


def _is_temporary(status: int, kind: object) -> bool:
    """Return whether it may succeed later; a 429 for a full disk will not, because the disk blocks the index."""
    return status == _TIMEOUT or status >= _SERVER_ERROR or (status == _TOO_MANY and kind != _BLOCK)


def _find_error(body: object) -> Any:
    """Return Elasticsearch's own error, or None if a proxy answered."""
    try:
        found = orjson.loads(body) if isinstance(body, bytes) else None
    except ValueError:
        return None
    return found.get("error") if isinstance(found, dict) else None


def _describe(body: object) -> str:
    """Return Elasticsearch's type and reason, or the beginning of a proxy's answer."""
    raw = body if isinstance(body, bytes) else b""
    try:
        error = orjson.loads(raw)["error"]
        return _shorten(f"{error['type']}: {error['reason']}" if isinstance(error, dict) else str(error))
    except (ValueError, KeyError, TypeError):
        return _one_line(raw)


def _one_line(raw: bytes) -> str:
    return repr(_shorten(raw[: 4 * LONGEST_REASON].decode(errors="replace"), 80))


def _shorten(text: str, longest: int = LONGEST_REASON) -> str:
    line = " ".join(text.split())
    return line if len(line) <= longest else f"{line[: longest - 1]}…"
