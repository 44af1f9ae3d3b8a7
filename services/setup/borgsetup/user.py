"""Kibana's user for people, created once; later only a password that no longer fits is set again."""

import structlog
from pydantic import SecretStr

from borgsetup.server import RequestRefusedError, Server, basic_login

USER = "borg"
WANTED = {"roles": ["editor"], "full_name": "Borg-DQN"}
"""The role editor reads all data, edits dashboards, and administers nothing."""
_NOT_FOUND = 404
_log = structlog.get_logger()


async def keep_user(server: Server, password: SecretStr) -> None:
    """Create the user; one that exists keeps its roles, its name, and whether it is enabled.

    The password is that of the keys, which ``borg-setup password`` prints. If Elasticsearch has another, it is set.

    Raises:
        ServerError: Elasticsearch does not come up, or refuses us.
    """
    path, secret = f"/_security/user/{USER}", {"password": password.get_secret_value()}
    try:
        found = (await server.ask("GET", path))[USER]
    except RequestRefusedError as error:
        if error.status != _NOT_FOUND:
            raise
        await server.ask("PUT", path, secret | WANTED)
        return
    wanted = WANTED | {"enabled": True}
    changes = [
        f"{name}: {found.get(name)} in place of {ours}" for name, ours in wanted.items() if found.get(name) != ours
    ]
    if changes:
        _log.warning("user_kept", user=USER, changes=changes, take_ours=f"DELETE {path}, then run again")
    if found.get("enabled") and await server.accepts(basic_login(USER, password)) is None:
        await server.ask("POST", f"{path}/_password", secret)
        _log.warning("user_password_set", user=USER, reason="Elasticsearch had another than the keys")
