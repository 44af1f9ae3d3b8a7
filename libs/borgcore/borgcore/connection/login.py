"""Connections of redis-py whose login and certificate authority are read again when a server refuses them."""

import asyncio
import ssl
from typing import Any

import structlog
from redis.asyncio import Connection, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.connection import AbstractConnection, parse_url
from redis.credentials import CredentialProvider
from redis.exceptions import RedisError

from borgcore.connection.failures import LoginRefusedError, is_refusal
from borgcore.settings.sections import RedisSettings

_log = structlog.get_logger()


class RedisLogin(CredentialProvider):
    """User and password of a server as last read; one for all connections of a pool."""

    def __init__(self, settings: RedisSettings) -> None:
        """Read no file yet."""
        self._settings = settings
        self._worked = False

    @property
    def can_change(self) -> bool:
        """Whether reading again may give another login."""
        return self._settings.source is not None

    @property
    def may_change(self) -> bool:
        """Whether a refusal may end without a restart: the server has accepted us before."""
        return self._worked and self.can_change

    @property
    def note(self) -> str:
        """What an error about a refused login adds."""
        return self._settings.read_again_note

    @property
    def ca_file(self) -> str | None:
        """The file of the authorities to trust; the system's if None."""
        ca_file = self._settings.newest.ca_file
        return None if ca_file is None else str(ca_file)

    def get_credentials(self) -> tuple[str, ...]:  # type: ignore[override]  # no password: redis-py takes () as well
        """Return the arguments of AUTH; none if there is no password."""
        newest = self._settings.newest
        options = parse_url(newest.url)
        password = options.get("password") or (newest.password.get_secret_value() if newest.password else "")
        user = options.get("username") or newest.user
        if user:
            return (user, password)
        return (password,) if password else ()

    async def get_credentials_async(self) -> tuple[str, ...]:  # type: ignore[override]  # as above
        """Return the same; redis-py's own would log a warning."""
        return self.get_credentials()

    async def read_again(self, refused: tuple[str, ...]) -> bool:
        """Return whether there is another login than the one ``refused``."""
        await self._settings.read_again()
        if self.get_credentials() == refused:
            return False
        _log.info("redis_login_renewed", address=self._settings.address)
        return True

    def note_success(self) -> None:
        """Remember that the server has accepted a login: from now on a refused one may be about to change."""
        self._worked = True


class _LoginConnection(AbstractConnection):
    """Logs in again at once if the login was refused and has changed."""

    credential_provider: RedisLogin

    async def connect_check_health(self, check_health: bool = True, retry_socket_connect: bool = True) -> None:
        if self.is_connected:
            return
        login = self.credential_provider
        used = login.get_credentials()
        try:
            try:
                await super().connect_check_health(check_health, retry_socket_connect)
            except RedisError as error:
                if not is_refusal(error) or not await login.read_again(used):
                    raise
                await super().connect_check_health(check_health, retry_socket_connect)
        except RedisError as error:
            if not is_refusal(error) or not login.may_change:
                raise
            raise LoginRefusedError(str(error), login.note) from error
        login.note_success()

    async def on_connect_check_health(self, check_health: bool = True) -> None:
        await super().on_connect_check_health(check_health)
        if self.credential_provider.can_change and not self.credential_provider.get_credentials():
            await self.send_command("PING", check_health=False)  # a server that now asks for a password refuses it
            await self.read_response()


class _TcpConnection(_LoginConnection, Connection):
    pass


class _UnixConnection(_LoginConnection, UnixDomainSocketConnection):
    pass


class _TlsConnection(_LoginConnection, SSLConnection):
    """Trusts what the authority's file holds when it connects."""

    async def _connect(self) -> None:
        self.ssl_context.ca_certs = self.credential_provider.ca_file
        self.ssl_context.context = None
        await asyncio.to_thread(self.ssl_context.get)  # reads files
        await super()._connect()  # type: ignore[no-untyped-call]

    def _error_message(self, exception: BaseException) -> str:
        text, ca_file = super()._error_message(exception), self.credential_provider.ca_file
        reads = isinstance(exception, ssl.SSLError) and ca_file is not None
        return f"{text}; {ca_file} is read again at each try" if reads else text


def connection_options(settings: RedisSettings, url: str) -> dict[str, Any]:
    """Return options of a pool for connections to ``url``: address, database, login and TLS."""
    options: dict[str, Any] = dict(parse_url(url))
    options.pop("username", None)
    options.pop("password", None)
    kinds = {SSLConnection: _TlsConnection, UnixDomainSocketConnection: _UnixConnection}
    options["connection_class"] = kinds.get(options.get("connection_class", Connection), _TcpConnection)
    return options | {"credential_provider": RedisLogin(settings)}
