"""Open the event store that a URL names.

Errors repeat nothing from a wrong URL: a piece of it may be a password.
"""

import re
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from borgcore.errors import SettingsError
from borgcore.eventstore.reader import EventFilter, EventReader
from borgcore.eventstore.settings import StoreSettings
from borgcore.eventstore.sqlite import open_sqlite_reader

_is_host = re.compile(r"[\w.:%-]+").fullmatch
_is_header = re.compile(r"[!-~]+").fullmatch
_SQLITE = "sqlite:///"
_EXPECTED = "expected https://host:port, http://host:port or sqlite:///path; nothing was started"
_CREDENTIALS = "give credentials by BORG_LOGSHIPPER_STORE__USER and __PASSWORD, or __API_KEY; nothing was started"


class Address(NamedTuple):
    """The address of an Elasticsearch."""

    scheme: str
    host: str
    port: int
    path: str = ""

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}{self.path}"


def open_reader(url: str, wanted: EventFilter) -> AbstractContextManager[EventReader | None]:
    """Open a store for reading; yield None if there is no store, or no table in it, yet.

    Raises:
        SettingsError: the URL is wrong, or names a store that cannot be read back.
        CorruptDataError: the file is not a database of events.
        MismatchError: it was written by another version.
        BorgError: it cannot be read.
    """
    place = read_store_url(url)
    if isinstance(place, Address):
        raise SettingsError(
            f"store url: found Elasticsearch at {place}, expected sqlite:///path: events are read back from SQLite "
            "alone; nothing was started"
        )
    return open_sqlite_reader(place, wanted)


def read_store_url(url: str) -> Path | Address:
    """Parse a store's URL into the path of a database or the address of an Elasticsearch.

    Raises:
        SettingsError: the URL is wrong.
    """
    return _read_path(url) if url.startswith(_SQLITE) else _read_address(url)


def check_login(settings: StoreSettings) -> None:
    """Check that exactly one way to log in is given completely, or none.

    Raises:
        SettingsError: the credentials are incomplete, malformed or of two kinds.
    """
    if settings.api_key is not None and (settings.user is not None or settings.password is not None):
        raise SettingsError(
            "store: found an api_key beside user or password, expected one of the two ways to log in; "
            "nothing was started"
        )
    if settings.api_key is not None and not _is_header(settings.api_key.get_secret_value()):
        raise SettingsError(
            "store api_key: found a line break, a space or no ASCII in it, expected an encoded key; nothing was started"
        )
    if (settings.user is None) != (settings.password is None):
        given, missing = ("user", "password") if settings.password is None else ("password", "user")
        raise SettingsError(
            f"store: found a {given} without a {missing}, expected both or neither; nothing was started"
        )


def _read_path(url: str) -> Path:
    path = url.removeprefix(_SQLITE)
    if not path or "?" in path or "#" in path or path.endswith("/"):
        raise SettingsError(f"store url: what follows {_SQLITE} is no file's path; {_EXPECTED}")
    return Path(unquote(path))


def _read_address(url: str) -> Address:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise SettingsError(f"store url: host and port cannot be told apart; {_EXPECTED}") from None
    if parts.scheme not in {"http", "https"} or not url.lower().startswith(f"{parts.scheme}://"):
        raise SettingsError(f"store url: found another scheme or none; {_EXPECTED}")
    if "@" in url:
        raise SettingsError(f"store url: found an @, credentials are not taken from a URL; {_CREDENTIALS}")
    if parts.query or parts.fragment or "?" in url or "#" in url:
        raise SettingsError(f"store url: a query or fragment is not allowed; {_EXPECTED}")
    if host and not _is_host(host):
        raise SettingsError(f"store url: the host is no name or address; {_EXPECTED}")
    if not host or not port:
        raise SettingsError(f"store url: found no {'port' if host else 'host'}; {_EXPECTED}")
    return Address(parts.scheme, host, port, parts.path.rstrip("/"))
