"""Import the dashboard into Kibana under fixed ids, so that starting the stack again makes no second copy.

An object that was changed in Kibana is kept: its ``updated_at`` is then later than its ``created_at``, which an import
sets to the same time.
"""

from collections.abc import Sequence
from typing import Any

import structlog

from borgcore.errors import ServerError
from borgsetup.kibana.objects import ndjson, saved_objects
from borgsetup.server import Server, open_server
from borgsetup.settings import SetupSettings

_FIND = "/api/saved_objects/_bulk_get"
_IMPORT = "/api/saved_objects/_import?overwrite=true"
_log = structlog.get_logger()


async def import_dashboard(settings: SetupSettings) -> None:
    """Wait for Kibana, import what was not changed there, and check in the reply that it took every object.

    Raises:
        ServerError: Kibana does not come up, refuses us, or took only some of the objects.
    """
    async with open_server("Kibana", settings.kibana_url, settings) as server:
        changed = await _find_changed(server)
        content = ndjson(without=changed)
        wanted = content.count(b"\n")
        if wanted:
            _check(await server.ask("POST", _IMPORT, upload=content), wanted)
    for id_, at in changed.items():
        _log.warning("saved_object_kept", id=id_, changed_at=at, take_ours="delete it in Kibana, then run again")
    _log.info("dashboard_imported", saved_objects=wanted, kept=len(changed), title="Borg-DQN Training")


async def _find_changed(server: Server) -> dict[str, str]:
    """Return the ids of our objects that were changed in Kibana, and when."""
    ids = [{"type": one["type"], "id": one["id"]} for one in saved_objects()]
    answer = await server.ask("POST", _FIND, ids)
    return {
        found["id"]: found["updated_at"]
        for found in answer.get("saved_objects", ())
        if "error" not in found and found.get("updated_at") != found.get("created_at")
    }


def _check(answer: dict[str, Any], wanted: int) -> None:
    if not answer.get("success") or answer.get("successCount") != wanted:
        raise ServerError(
            f"Kibana took {answer.get('successCount', 0)} of {wanted} saved objects: {_reasons(answer.get('errors'))}; "
            "what it had before is still there"
        )


def _reasons(errors: Sequence[dict[str, Any]] | None) -> str:
    return "; ".join(f"{error.get('id')}: {error.get('error')}" for error in errors or ()) or "it gave no reason"
