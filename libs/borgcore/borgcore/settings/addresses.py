"""The servers that URLs of Redis and Kafka name, without secrets.

A password that is not percent-encoded splits a URL in unexpected places, so its port, path or query may be a piece of
the password. Errors therefore never repeat anything from a wrong URL.
"""

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from borgcore.errors import SettingsError

_SCHEMES = ("redis", "rediss", "unix")
_DEFAULT_PORT = 9092
_BROKER = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::(\d{1,5}))?")
_EXPECTED = "kafka://host:port[,host:port…] or kafka+ssl://host:port[,host:port…]"
_ENCODE = "give a password by BORG_REDIS_PASSWORD, or percent-encoded before the @"


def read_address(url: str) -> str:
    """Check a Redis URL; return its server as ``host:port`` or the socket's path, without user or password.

    Raises:
        ValueError: the URL is wrong; the text repeats only its scheme.
    """
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        raise ValueError("found a value that is no URL") from None
    if parts.scheme not in _SCHEMES or not url.startswith(f"{parts.scheme}://"):
        raise ValueError(
            f"scheme {parts.scheme if '://' in url and parts.scheme else 'missing'!r}, expected redis://host:port, "
            "rediss://host:port or unix:///path"
        )
    if "?" in url or "#" in url:  # redis-py takes any option from a query, including a password
        raise ValueError(f"a query or fragment is not allowed; {_ENCODE}")
    if parts.scheme == "unix":
        if not parts.path or "@" in parts.path or (parts.netloc and "@" not in parts.netloc):
            raise ValueError(f"what follows unix:// is no socket's path; expected unix:///path; {_ENCODE}")
        return parts.path
    try:
        address = f"{host or 'localhost'}:{parts.port or 6379}"
    except ValueError:
        raise ValueError(f"the port is no number up to 65535; expected {parts.scheme}://host:port; {_ENCODE}") from None
    if "@" in parts.path:
        raise ValueError(f"an @ follows the server's address; {_ENCODE}")
    return address


def is_kafka(url: str) -> bool:
    """Return whether a URL names Kafka."""
    return url.startswith(("kafka://", "kafka+ssl://"))


@dataclass(frozen=True, slots=True)
class KafkaUrl:
    """The brokers that a URL names."""

    brokers: tuple[tuple[str, int], ...]
    """Host and port of each, at least one."""
    tls: bool

    @property
    def address(self) -> str:
        """The brokers, as shown in logs and errors."""
        return ",".join(f"{host}:{port}" for host, port in self.brokers)


def read_kafka_url(url: str) -> KafkaUrl:
    """Parse a Kafka URL.

    Raises:
        SettingsError: the URL is wrong; the text repeats nothing from it.
    """
    scheme, _, rest = url.partition("://")
    if "@" in rest:
        raise SettingsError(
            "events url: a user or password in a Kafka URL is not allowed; give them by BORG_EVENTS_USER and "
            "BORG_EVENTS_PASSWORD; nothing was started"
        )
    brokers = []
    for piece in rest.removesuffix("/").split(","):
        found = _BROKER.fullmatch(piece)
        port = int(found[2] or _DEFAULT_PORT) if found else 0
        if not found or not 0 < port < 1 << 16:  # not repeated, see above
            raise SettingsError(
                f"events url: what follows {scheme}:// is no list of brokers; expected {_EXPECTED}, without path, "
                "query or fragment; nothing was started"
            )
        brokers.append((found[1], port))
    return KafkaUrl(tuple(brokers), tls=scheme == "kafka+ssl")
