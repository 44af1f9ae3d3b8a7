"""Set up Elasticsearch for the stack: Kibana's password, a user for people, index templates, a key for each shipper."""

import base64
import datetime as dt
from pathlib import Path
from typing import Any, NamedTuple

import structlog
from anyio import to_thread

from borgcore.errors import SettingsError
from borgcore.events.elasticsearch_templates import index_template
from borgcore.events.topics import TOPICS, index_name
from borgsetup.indices import install_template, make_index
from borgsetup.keys import write_secret
from borgsetup.lifecycle import POLICY, keep_events
from borgsetup.server import Server, open_server
from borgsetup.settings import SetupSettings
from borgsetup.user import keep_user

OUR_INDICES = [f"{topic}-*" for topic in TOPICS]
_CREATE_INDEX = "indices:admin/auto_create"  # by the first document of a month; templates have no dynamic mappings
_VERSION = "cluster:monitor/main"  # GET /, Elasticsearch's name and version
_LICENSE = "cluster:monitor/xpack/license/get"
_log = structlog.get_logger()


class ShipperKey(NamedTuple):
    """An API key of a shipper: what it permits, and the file it is kept in. Privileges are as narrow as actions."""

    name: str
    file: str
    encoded: bool
    """Whether the file holds it in base64, as the Authorization header does, or as id:key."""
    cluster: list[str]
    privileges: list[str]
    """On our indices."""

    @property
    def role(self) -> dict[str, Any]:
        """The role descriptor."""
        return {"cluster": self.cluster, "index": [{"names": OUR_INDICES, "privileges": self.privileges}]}


LOGSHIPPER = ShipperKey(
    "borg-logshipper",
    "logshipper/borg_logshipper_store__api_key",
    encoded=True,
    cluster=[_VERSION],  # asked at the start, and by --check-config
    privileges=["create_doc", "read", _CREATE_INDEX],  # read: a duplicate is compared with the stored document
)
LOGSTASH = ShipperKey(
    "borg-logstash",
    "logstash/logstash_api_key",
    encoded=False,
    cluster=[_VERSION, _LICENSE],  # its plugin asks for both whenever it connects, and does nothing without
    privileges=["create_doc", _CREATE_INDEX],
)
SHIPPER_KEYS = (LOGSHIPPER, LOGSTASH)


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
        policy = None if settings.retention_days is None else POLICY
        for topic in TOPICS:
            await install_template(server, topic, index_template(topic, "", 0, policy))
            await make_index(server, index_name(topic, month))
        await keep_events(server, settings.retention_days)
        made = [key.name for key in SHIPPER_KEYS if await _keep_key(server, settings.keys_dir, key)]
    version = found.get("version", {}).get("number")
    _log.info("store_prepared", version=version, made_keys=made)


async def _keep_key(server: Server, keys_dir: Path, key: ShipperKey) -> bool:
    """Ensure that a shipper has a valid API key; return True if a new one was made."""
    stored = await to_thread.run_sync(_read, keys_dir / key.file)
    if stored is not None and await _is_accepted(server, stored, key):
        return False
    await server.ask("DELETE", "/_security/api_key", {"name": key.name, "owner": True})
    made = await server.ask("POST", "/_security/api_key", {"name": key.name, "role_descriptors": {key.name: key.role}})
    pair = f"{made['id']}:{made['api_key']}"
    await to_thread.run_sync(write_secret, keys_dir / key.file, _encode(pair) if key.encoded else pair)
    return True


async def _is_accepted(server: Server, stored: str, key: ShipperKey) -> bool:
    known = await server.accepts(f"ApiKey {stored if key.encoded else _encode(stored)}")
    return known is not None and known.get("api_key", {}).get("name") == key.name


def _encode(pair: str) -> str:
    return base64.b64encode(pair.encode()).decode()


def _read(path: Path) -> str | None:
    return path.read_text() if path.exists() else None
