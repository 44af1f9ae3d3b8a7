"""The settings of the setup."""

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import PositiveFloat, PositiveInt, SecretStr
from pydantic_settings import CliPositionalArg

from borgcore.settings.service import ServiceSettings


class SetupSettings(ServiceSettings):
    """Prepare the full stack, step by step; every step may be repeated and keeps what an operator changed."""

    service: ClassVar[str] = "setup"

    step: CliPositionalArg[Literal["keys", "functions", "topics", "store", "dashboard", "password"]]
    """keys: make passwords and certificates; functions: set Redis' users and load the replay memory's functions;
    topics: create Kafka's topics and permissions; store: set up users, index templates, indices and API keys in
    Elasticsearch; dashboard: import the dashboard into Kibana; password: print the password of Kibana's user borg."""
    keys_dir: Path = Path("/keys")
    """Folder of the keys, with one subfolder per service; all passwords are in setup/."""
    elasticsearch_url: str = "https://elasticsearch:9200"
    """URL of Elasticsearch."""
    kibana_url: str = "http://kibana:5601"
    """URL of Kibana."""
    ca_file: Path | None = None
    """Certificate authority that signed Elasticsearch's certificate."""
    elastic_password: SecretStr | None = None
    """Password of Elasticsearch's user elastic."""
    kibana_password: SecretStr | None = None
    """Password of kibana_system, Kibana's own user in Elasticsearch."""
    user_password: SecretStr | None = None
    """Password of borg, the user with whom people log in to Kibana."""
    retention_days: PositiveInt | None = None
    """Let Elasticsearch delete the index of a month once all its events are older, days; by default it keeps all."""
    timeout_s: PositiveFloat = 30.0
    """Longest wait for one reply, seconds."""
    wait_s: PositiveFloat = 300.0
    """Longest wait for a server that is not yet up, seconds."""
