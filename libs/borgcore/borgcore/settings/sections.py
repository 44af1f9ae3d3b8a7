"""Sections: groups of settings. Those of the two servers that every service uses are its flat settings as well."""

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, SecretStr

from borgcore.settings.addresses import read_address

SaslMechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]


class Section(BaseModel):
    """A nested group of settings; the docstring under a field is its help text."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
    internal: ClassVar[frozenset[str]] = frozenset()
    """Fields that are no setting where the section's fields are flat settings."""


class RedisSettings(Section):
    """How to reach the Redis or Valkey server that holds the run."""

    internal: ClassVar[frozenset[str]] = frozenset({"connect_timeout_s"})

    url: str = Field("redis://127.0.0.1:6379", repr=False)
    """redis://host:port, rediss://host:port (TLS) or unix:///path/to.sock."""
    password: SecretStr | None = None
    """Password of the Redis server; better by environment than on the command line."""
    ca_file: Path | None = None
    """Certificate authority that signed the server's certificate, for rediss://."""
    connect_timeout_s: PositiveFloat = 2.0
    """Longest wait for a connection, seconds."""
    timeout_s: PositiveFloat = 5.0
    """Longest wait for one reply, seconds."""
    outage_s: PositiveFloat = 20.0
    """How long a lost connection is tried again before the service ends, seconds."""

    @property
    def address(self) -> str:
        """The server as logs and errors name it: without user and password."""
        try:
            return read_address(self.url)
        except ValueError:
            return "the given URL"


class EventsSettings(Section):
    """How to reach the event log, and how much to keep for it while it is away."""

    internal: ClassVar[frozenset[str]] = frozenset({"timeout_s", "outage_s"})  # those of Redis hold for both

    url: str = Field("redis://127.0.0.1:6379", repr=False)
    """kafka://host:port[,host:port…], kafka+ssl:// (TLS), or redis://, rediss://, unix:// for Redis Streams."""
    user: str | None = None
    """SASL user of Kafka."""
    password: SecretStr | None = None
    """Password of the event log; better by environment than on the command line."""
    sasl: SaslMechanism = "SCRAM-SHA-512"
    """SASL mechanism of Kafka, used where a user is given."""
    ca_file: Path | None = None
    """Certificate authority that signed the event log's certificate."""
    timeout_s: PositiveFloat = 5.0
    """Longest wait for one reply, seconds."""
    outage_s: PositiveFloat = 20.0
    """How long a lost connection is tried again before a reader gives up, seconds."""
    prefix: str = Field("", pattern=r"^[A-Za-z0-9._-]{0,60}$")
    """Put before the names of Kafka's topics, where a Kafka is shared."""
    partitions: PositiveInt = 3
    """Partitions of a Kafka topic that is created because it is missing."""
    replication: PositiveInt = 1
    """Copies that Kafka keeps of such a topic."""
    stream_cap: PositiveInt = 200_000
    """Most entries of a Redis stream, 1,000 of dead_letter; older ones that nobody has read are trimmed, counted and
    said."""
    buffer: PositiveInt = 10_000
    """Events kept in memory while the log is away; beyond, the oldest are dropped, counted and said."""
