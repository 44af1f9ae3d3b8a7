"""Import the dashboard into Kibana under fixed ids, so that starting the stack again makes no second copy."""

from collections.abc import Sequence
from typing import Any

import structlog

from borgcore.errors import ServerError
from borgsetup.kibana.objects import ndjson
from borgsetup.server import open_server
from borgsetup.settings import SetupSettings

_IMPORT = "/api/saved_objects/_import?overwrite=true"
_log = structlog.get_logger()


async def import_dashboard(settings: SetupSettings) -> None:
    """Wait for Kibana, import the dashboard, and check in the reply that it took every object.

    Raises:
        ServerError: Kibana does not come up, refuses us, or took only some of the objects.
    """
    content = ndjson()
    wanted = content.count(b"\n")
    async with open_server("Kibana", settings.kibana_url, settings) as server:
        answer = await server.ask("POST", _IMPORT, upload=content)
    if not answer.get("success") or answer.get("successCount") != wanted:
        raise ServerError(
            f"Kibana took {answer.get('successCount', 0)} of {wanted} saved objects: {_reasons(answer.get('errors'))}; "
            "what it had before is still there"
        )
    _log.info("dashboard_imported", saved_objects=wanted, title="Borg-DQN Training")


def _reasons(errors: Sequence[dict[str, Any]] | None) -> str:
    return "; ".join(f"{error.get('id')}: {error.get('error')}" for error in errors or ()) or "it gave no reason"
