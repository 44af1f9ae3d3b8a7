"""What a Redis URL names, without its secrets.

A password that should have been percent-encoded splits a URL in unexpected places: what stands where the port, the
path or the query should be may be a piece of it. So nothing of a wrong URL is ever repeated.
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
    """Check a Redis URL and name its server, ``host:port`` or the socket's path, without user or password.

    Raises:
        ValueError: it is wrong; the text repeats nothing of it but a short scheme.
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
    if "?" in url or "#" in url:  # redis-py would take any option from a query, a password among them
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
    """Whether a URL names Kafka."""
    return url.startswith(("kafka://", "kafka+ssl://"))


@dataclass(frozen=True, slots=True)
class KafkaUrl:
    """What a URL names."""

    brokers: tuple[tuple[str, int], ...]
    """Host and port of each, at least one."""
    tls: bool

    @property
    def address(self) -> str:
        """The brokers as logs and errors name them."""
        return ",".join(f"{host}:{port}" for host, port in self.brokers)


def read_kafka_url(url: str) -> KafkaUrl:
    """Check a URL.

    Raises:
        SettingsError: it is wrong; the text repeats nothing of it.
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
        if not found or not 0 < port < 1 << 16:  # nothing of it is repeated, see above
            raise SettingsError(
                f"events url: what follows {scheme}:// is no list of brokers; expected {_EXPECTED}, without path, "
                "query or fragment; nothing was started"
            )
        brokers.append((found[1], port))
    return KafkaUrl(tuple(brokers), tls=scheme == "kafka+ssl")
