"""Whether an installed index template is still as it was installed, or an operator has changed it.

An installed template has a fingerprint of its content in ``_meta``. As long as both agree, a newer template may replace
it; a changed one is the operator's and stays. A template without a fingerprint, from before there was one, may be
replaced if it only lacks fields.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

_NO_CONTENT = ("_meta", "created_date", "created_date_millis", "modified_date", "modified_date_millis")
_FIELDS = "template.mappings.properties."
_ABSENT = "nothing"


def fingerprint(template: Mapping[str, Any]) -> str:
    """Return a digest of the content, the same for a template and for what Elasticsearch returns of it."""
    return hashlib.sha256(json.dumps(_flatten(template), sort_keys=True).encode()).hexdigest()[:16]


def find_template(answer: Mapping[str, Any], name: str) -> dict[str, Any] | None:
    """Return the template from the answer to ``GET _index_template/<name>``; None if there is none."""
    found: list[dict[str, Any]] = answer.get("index_templates", [])
    return next((one["index_template"] for one in found if one["name"] == name), None)


def list_changes(found: Mapping[str, Any] | None, wanted: Mapping[str, Any]) -> list[str]:
    """Return what an operator changed, as ``path: value in place of ours``; empty if ``wanted`` may be installed."""
    if found is None:
        return []
    signed = (found.get("_meta") or {}).get("fingerprint")
    if signed == fingerprint(found):
        return []
    theirs, ours = _flatten(found), _flatten(wanted)
    return [
        f"{path}: {theirs.get(path, _ABSENT)} in place of {ours.get(path, _ABSENT)}"
        for path in sorted(theirs.keys() | ours.keys())
        if theirs.get(path) != ours.get(path)
        and not (signed is None and path.startswith(_FIELDS) and path not in theirs)
    ]


def _flatten(template: Mapping[str, Any]) -> dict[str, str]:
    """Return the content as text by dotted path; Elasticsearch returns settings as text and adds empty lists."""
    return dict(_walk("", {name: value for name, value in template.items() if name not in _NO_CONTENT}))


def _walk(path: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _walk(f"{path}.{name}" if path else name, inner)
    elif isinstance(value, bool):
        yield path, str(value).lower()
    elif value is not None and value != []:
        yield path, str(value)
