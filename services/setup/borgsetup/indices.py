"""Index templates, and the first index of each topic."""

from collections.abc import Mapping
from typing import Any

import structlog

from borgcore.events.template_changes import find_template, list_changes
from borgsetup.server import RequestRefusedError, Server

_NOT_FOUND = 404
_EXISTS = "resource_already_exists_exception"
_log = structlog.get_logger()


async def install_template(server: Server, name: str, wanted: Mapping[str, Any]) -> bool:
    """Install an index template; one that an operator changed is logged and kept. Return whether it is ours.

    Raises:
        ServerError: Elasticsearch does not come up, or refuses it.
    """
    path = f"/_index_template/{name}"
    try:
        found = find_template(await server.ask("GET", path), name)
    except RequestRefusedError as error:
        if error.status != _NOT_FOUND:
            raise
        found = None
    if changes := list_changes(found, wanted):
        _log.warning("index_template_kept", template=name, changes=changes, take_ours=f"DELETE {path}, then run again")
        return False
    await server.ask("PUT", path, wanted)
    return True


async def make_index(server: Server, name: str) -> None:
    """Create an empty index, so that Kibana knows the fields before the first event; a refusal is only logged.

    One index of a topic is enough: the shipper creates those of later months, and Kibana shows the fields of all.
    """
    try:
        await server.ask("PUT", f"/{name}")
    except RequestRefusedError as error:
        if error.reason != _EXISTS:
            _log.warning("index_not_made", index=name, reason=str(error))
