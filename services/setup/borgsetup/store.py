"""Set up Elasticsearch for the stack: Kibana's password, a user for people, index templates, a key for the shipper."""

import base64
import datetime as dt
from pathlib import Path

import structlog
from anyio import to_thread

from borgcore.errors import SettingsError
from borgcore.events.elasticsearch_templates import index_template
from borgcore.events.topics import TOPICS
from borgsetup.indices import install_template, make_index
from borgsetup.keys import write_secret
from borgsetup.server import Server, open_server
from borgsetup.settings import SetupSettings
from borgsetup.user import keep_user

SHIPPER = "borg-logshipper"
KEY_FILES = ("borg_logshipper_store__api_key", "logstash_api_key")
SHIPPER_ROLE = {
    "cluster": ["monitor"],
    "index": [{"names": [f"{topic}-*" for topic in TOPICS], "privileges": ["auto_configure", "create_doc", "read"]}],
}
_log = structlog.get_logger()


async def prepare_store(settings: SetupSettings) -> None:
    """Configure Elasticsearch for the stack; what an operator changed stays and is logged.

    Raises:
        SettingsError: a password is missing.
        ServerError: Elasticsearch does not come up, or refuses us.
    """
    if settings.kibana_password is None or settings.user_password is None:
        raise SettingsError(
            "kibana_password, user_password: at least one is not set; expected files borg_setup_kibana_password and "
            "borg_setup_user_password; nothing was done"
        )
    async with open_server("Elasticsearch", settings.elasticsearch_url, settings) as server:
        found = await server.ask("GET", "/")
        await server.ask(
            "POST",
            "/_security/user/kibana_system/_password",
            {"password": settings.kibana_password.get_secret_value()},
        )
        await keep_user(server, settings.user_password)
        month = dt.datetime.now(dt.UTC)
        for topic in TOPICS:
            await install_template(server, topic, index_template(topic, "", 0))
            await make_index(server, f"{topic}-{month:%Y.%m}")
        made = await _keep_key(server, settings.keys_dir / "shipper")
    version = found.get("version", {}).get("number")
    _log.info("store_prepared", version=version, api_key="made" if made else "kept")


async def _keep_key(server: Server, folder: Path) -> bool:
    """Ensure that the shipper has a valid API key; return True if a new one was made."""
    stored = await to_thread.run_sync(_read, folder / KEY_FILES[0])
    known = None if stored is None else await server.accepts(f"ApiKey {stored}")
    if known is not None and known.get("api_key", {}).get("name") == SHIPPER:
        return False
    await server.ask("DELETE", "/_security/api_key", {"name": SHIPPER, "owner": True})
    key = await server.ask("POST", "/_security/api_key", {"name": SHIPPER, "role_descriptors": {SHIPPER: SHIPPER_ROLE}})
    pair = f"{key['id']}:{key['api_key']}"
    for name, text in zip(KEY_FILES, (base64.b64encode(pair.encode()).decode(), pair), strict=True):
        await to_thread.run_sync(write_secret, folder / name, text)
    return True


def _read(path: Path) -> str | None:
    return path.read_text() if path.exists() else None
