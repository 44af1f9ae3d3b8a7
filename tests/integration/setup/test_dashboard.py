"""What the step ``dashboard`` asks of Kibana, which answers as it is told."""

from collections.abc import Mapping
from pathlib import Path

import orjson
import pytest
from structlog.testing import capture_logs

from borgcore.errors import ServerError
from borgsetup.dashboard import import_dashboard
from borgsetup.kibana.objects import DASHBOARD, ndjson, saved_objects
from tests.sink import Answer, Sink

from .steps import LOGIN, answered, settings_of

OBJECTS = ndjson().count(b"\n")
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
