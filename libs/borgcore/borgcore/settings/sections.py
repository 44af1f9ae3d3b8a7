"""Sections: groups of settings. Two of them, for the servers of every service, are also its flat settings."""

import re
from functools import partial
from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, PrivateAttr, SecretStr

from borgcore.settings.addresses import read_address
from borgcore.settings.reload import LoginSource

_strip_login = partial(re.compile(r"(?<=//)[^/]*@").sub, "", count=1)
SaslMechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]


class Section(BaseModel):
    """A nested group of settings; the docstring under a field is its help text."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
    internal: ClassVar[frozenset[str]] = frozenset()
    """Fields that users cannot set."""
    login: ClassVar[frozenset[str]] = frozenset()
    """Fields that :meth:`read_again` replaces."""

    _source: LoginSource | None = PrivateAttr(None)

    @property
    def source(self) -> LoginSource | None:
        """Where the login comes from; None if it cannot change."""
        return self._source

    def bind(self, source: LoginSource | None) -> Self:
        """Return a copy whose login comes from ``source``."""
        copy = self.model_copy()
        copy._source = source  # noqa: SLF001  # our own class
        return copy

    @property
    def newest(self) -> Self:
        """These settings with the login as last read."""
        if self._source is None:
            return self
        found = self._source.newest
        update = {name: getattr(found, name) for name in self.login}
        if "url" in update and _strip_login(update["url"]) != _strip_login(self.__dict__["url"]):
            del update["url"]  # no other server without a restart
        return self.model_copy(update=update)

    async def read_again(self) -> Self:
        """Read the files of the login again and return :attr:`newest`; wrong files change nothing."""
        if self._source is not None:
            await self._source.read_again()
        return self.newest

    @property
    def read_again_note(self) -> str:
        """What an error about a refused login adds; empty if the login cannot change."""
        if self._source is None:
            return ""
        problem = self._source.files.problem
        if problem is not None:
            return f"; its files could not be read again: {problem.removesuffix('; nothing was started')}"
        return "; its files are read again at each try"


class RedisSettings(Section):
    """How to reach the Redis or Valkey server that holds the run."""

    internal: ClassVar[frozenset[str]] = frozenset({"connect_timeout_s"})
    login: ClassVar[frozenset[str]] = frozenset({"url", "user", "password", "ca_file"})

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
    login: ClassVar[frozenset[str]] = frozenset({"url", "user", "password", "sasl", "ca_file"})

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
