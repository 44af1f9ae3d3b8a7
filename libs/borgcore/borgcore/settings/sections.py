"""Sections: groups of settings. Two of them, for the servers of every service, are also its flat settings."""

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, SecretStr

from borgcore.settings.addresses import read_address

SaslMechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]


class Section(BaseModel):
    """A nested group of settings; the docstring under a field is its help text."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
    internal: ClassVar[frozenset[str]] = frozenset()
    """Fields that users cannot set."""


class RedisSettings(Section):
    """How to reach the Redis or Valkey server that holds the run."""

    internal: ClassVar[frozenset[str]] = frozenset({"connect_timeout_s"})

    url: str = Field("redis://127.0.0.1:6379", repr=False)
    """redis://host:port, rediss://host:port (TLS) or unix:///path/to.sock."""
    user: str | None = None
    """User of the Redis server; its default user if not given."""
    password: SecretStr | None = None
    """Password of the Redis server; safer in the environment than on the command line."""
    ca_file: Path | None = None
    """Certificate authority that signed the server's certificate, for rediss://."""
    connect_timeout_s: PositiveFloat = 2.0
    """Longest wait for a connection, seconds."""
    timeout_s: PositiveFloat = 5.0
    """Longest wait for one reply, seconds."""
    outage_s: PositiveFloat = 20.0
    """How long to retry a lost connection before the service ends, seconds."""

    @property
    def address(self) -> str:
        """The server as shown in logs and errors, without user and password."""
        try:
            return read_address(self.url)
        except ValueError:
            return "the given URL"


class EventsSettings(Section):
    """How to reach the event log, and how many events to keep while it is unavailable."""

    internal: ClassVar[frozenset[str]] = frozenset({"timeout_s", "outage_s"})  # taken from the settings of Redis

    url: str = Field("redis://127.0.0.1:6379", repr=False)
    """kafka://host:port[,host:port…], kafka+ssl:// (TLS), or redis://, rediss://, unix:// for Redis Streams."""
    user: str | None = None
    """User of Redis, or SASL user of Kafka."""
    password: SecretStr | None = None
    """Password of the event log; safer in the environment than on the command line."""
    sasl: SaslMechanism = "SCRAM-SHA-512"
    """SASL mechanism of Kafka, used if a user is given."""
    ca_file: Path | None = None
    """Certificate authority that signed the event log's certificate."""
    timeout_s: PositiveFloat = 5.0
    """Longest wait for one reply, seconds."""
    outage_s: PositiveFloat = 20.0
    """How long to retry a lost connection before a reader gives up, seconds."""
    prefix: str = Field("", pattern=r"^[A-Za-z0-9._-]{0,60}$")
    """Prefix of Kafka's topics, for a shared Kafka."""
    partitions: PositiveInt = 3
    """Partitions of Kafka topics that the service creates."""
    replication: PositiveInt = 1
    """Replicas of Kafka topics that the service creates."""
    stream_cap: PositiveInt = 200_000
    """Most entries of a Redis stream (dead_letter: 1,000); older unread ones are trimmed, counted and reported."""
    buffer: PositiveInt = 10_000
    """Events kept in memory while the log is unavailable; then the oldest are dropped, counted and reported."""
