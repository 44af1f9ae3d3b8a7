"""How to reach the event store."""

from pathlib import Path
from typing import ClassVar

from pydantic import Field, PositiveFloat, SecretStr

from borgcore.settings.sections import Section


class StoreSettings(Section):
    """The event store."""

    login: ClassVar[frozenset[str]] = frozenset({"user", "password", "api_key", "ca_file"})

    url: str | None = Field(None, repr=False)
    """https://host:port or http://host:port (Elasticsearch), or sqlite:///path;
    sqlite:///runs/<run>/events.sqlite if not given."""
    prefix: str = Field("", pattern=r"^([a-z0-9][a-z0-9._-]{0,60})?$")
    """Prefix of indices and templates, for a shared Elasticsearch."""
    user: str | None = None
    """User of Elasticsearch; needs a password."""
    password: SecretStr | None = None
    """Password of that user."""
    api_key: SecretStr | None = None
    """Encoded API key of Elasticsearch, instead of user and password."""
    ca_file: Path | None = None
    """Certificate authority that signed the store's certificate."""
    timeout_s: PositiveFloat = 30.0
    """Longest wait for the answer to one request, seconds."""
    templates: bool = True
    """Install the index templates; switch off if they are installed otherwise or the key may not."""
    replicas: int = Field(0, ge=0)
    """Replicas of each shard, set by the index templates; 0 suits a single node."""
    retention_days: PositiveFloat | None = None
    """Delete events of a SQLite file that are older than that, by their own time; by default all are kept."""
    retention_bytes: int | None = Field(None, ge=10_000_000)
    """Delete the oldest events of a SQLite file beyond that size, bytes; by default all are kept."""
