"""The settings of the setup."""

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import PositiveFloat, SecretStr
from pydantic_settings import CliPositionalArg

from borgcore.settings.service import ServiceSettings


class SetupSettings(ServiceSettings):
    """Prepare the full stack, step by step; any step may be repeated and leaves alone what is already right."""

    service: ClassVar[str] = "setup"

    step: CliPositionalArg[Literal["keys", "store", "dashboard", "password"]]
    """keys: make passwords and certificates; store: users, templates and keys of Elasticsearch; dashboard: bring the
    dashboard into Kibana; password: print that of Kibana's user borg."""
    keys_dir: Path = Path("/keys")
    """Folder of the keys: one subfolder per service, the setup's own in setup/."""
    elasticsearch_url: str = "https://elasticsearch:9200"
    """URL of Elasticsearch."""
    kibana_url: str = "http://kibana:5601"
    """URL of Kibana."""
    ca_file: Path | None = None
    """Certificate authority that signed Elasticsearch's certificate."""
    elastic_password: SecretStr | None = None
    """Password of Elasticsearch's user elastic."""
    kibana_password: SecretStr | None = None
    """Password for Kibana's own user in Elasticsearch, kibana_system."""
    user_password: SecretStr | None = None
    """Password for people's user in Kibana, borg."""
    timeout_s: PositiveFloat = 30.0
    """Longest wait for one reply, seconds."""
    wait_s: PositiveFloat = 300.0
    """Longest wait for a server that is not up yet, seconds."""
