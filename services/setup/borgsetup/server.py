"""Requests to Elasticsearch and Kibana, including the wait until they are up."""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import orjson
import structlog
from anyio import to_thread
from pydantic import SecretStr

from borgcore.connection.retry import Outage, retry_through_outage
from borgcore.errors import ServerError, SettingsError
from borgsetup.settings import SetupSettings

MAX_ANSWER_BYTES = 1 << 20
_AWAY = frozenset({429, 502, 503, 504})
_REFUSED = frozenset({401, 403})
_log = structlog.get_logger()


class _NotUpError(Exception):
    """The server cannot be reached or is still starting."""


class RequestRefusedError(ServerError):
    """The server answered, and does not do what it was asked to do."""

    def __init__(self, text: str, status: int, reason: str) -> None:
        """``reason`` is Elasticsearch's type of the error, if it is one."""
        super().__init__(text)
        self.status = status
        self.reason = reason


class Server:
    """Elasticsearch or Kibana, accessed as its superuser."""

    def __init__(self, name: str, url: str, session: aiohttp.ClientSession, settings: SetupSettings) -> None:
        """``url`` has no credentials."""
        self.name = name
        self._url = url.rstrip("/")
        self._session = session
        self._settings = settings

    async def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        upload: bytes | None = None,
        login: str | None = None,
    ) -> dict[str, Any]:
        """Send one request and return the JSON object in the answer.

        ``upload`` is sent as a file instead of ``body``; ``login`` replaces the superuser's Authorization header.
        While the server is not up, the request is repeated for ``wait_s``.

        Raises:
            RequestRefusedError: the server refused us or the request.
            ServerError: the server did not come up in time.
        """
        limit_s = self._settings.wait_s

        async def send() -> dict[str, Any]:
            status, answer = await self._send(method, path, body, upload, login)
            if status in range(200, 300):
                return _object(answer)
            if status and status not in _AWAY:
                raise RequestRefusedError(self._refusal(status, method, path, answer), status, _error_type(answer))
            if not outage.failures:
                _log.info("server_awaited", server=self.name, url=self._url, status=status, limit_s=limit_s)
            raise _NotUpError(f"it answered {status}" if status else answer.decode())

        outage = Outage()
        try:
            return await retry_through_outage(
                send, is_outage=lambda error: isinstance(error, _NotUpError), give_up_after_s=limit_s, outage=outage
            )
        except _NotUpError as error:
            raise ServerError(
                f"{self.name} at {self._url} was not up within {limit_s:g} s: {error}; start this step again when it is"
            ) from None

    async def _send(
        self, method: str, path: str, body: object, upload: bytes | None, login: str | None
    ) -> tuple[int, bytes]:
        """Return status and answer, or 0 and the reason if there is no answer; reads password and authority again."""
        settings = await self._settings.read_again()
        trust = await to_thread.run_sync(_trust, settings)
        headers = {"kbn-xsrf": "borg-setup"}  # Kibana requires it for changes
        if body is not None:
            headers["Content-Type"] = "application/json"
        headers["Authorization"] = _login(settings) if login is None else login
        data: aiohttp.FormData | bytes | None = None if body is None else orjson.dumps(body)
        if upload is not None:
            data = aiohttp.FormData()
            data.add_field("file", upload, filename="objects.ndjson", content_type="application/ndjson")
        try:
            async with self._session.request(
                method, self._url + path, data=data, headers=headers, ssl=trust
            ) as response:
                return response.status, await _read(response.content)
        except (aiohttp.ClientSSLError, ssl.SSLError) as error:
            raise ServerError(f"{self.name} at {self._url} cannot be trusted: {error}; this step ends") from None
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            return 0, (str(error) or type(error).__name__).encode()

    async def accepts(self, login: str) -> dict[str, Any] | None:
        """Return who logs in with an Authorization header, or None if Elasticsearch does not accept it."""
        try:
            return await self.ask("GET", "/_security/_authenticate", login=login)
        except RequestRefusedError:
            return None

    def _refusal(self, status: int, method: str, path: str, answer: bytes) -> str:
        if status in _REFUSED:
            return (
                f"{self.name} at {self._url} refused us ({status}); it was probably first started with other keys: "
                "data and keys belong together, restore the keys or remove both volumes; if Elasticsearch is new, its "
                "disk is probably too full for the index of its users: see its log and free some space"
            )
        return f"{self.name} at {self._url} refused {method} {path} ({status}): {answer.decode(errors='replace')[:500]}"


def basic_login(user: str, password: SecretStr) -> str:
    """Return the Authorization header of a user."""
    return aiohttp.encode_basic_auth(user, password.get_secret_value())


def _error_type(answer: bytes) -> str:
    try:
        return str(orjson.loads(answer)["error"]["type"])
    except (ValueError, KeyError, TypeError):
        return ""


def _login(settings: SetupSettings) -> str:
    password = settings.elastic_password
    if password is None:
        raise SettingsError("elastic_password: not set; expected a file borg_setup_elastic_password; nothing was done")
    return basic_login("elastic", password)


def _object(answer: bytes) -> dict[str, Any]:
    found = orjson.loads(answer or b"{}")
    return found if isinstance(found, dict) else {"answer": found}


async def _read(content: aiohttp.StreamReader) -> bytes:
    answer = bytearray()
    async for part in content.iter_any():
        answer += part
        if len(answer) > MAX_ANSWER_BYTES:
            raise ServerError(
                f"an answer has over {MAX_ANSWER_BYTES:,} bytes, more than any expected here; this step ends"
            )
    return bytes(answer)


@asynccontextmanager
async def open_server(name: str, url: str, settings: SetupSettings) -> AsyncIterator[Server]:
    """Open a session for requests during the block.

    Raises:
        SettingsError: the certificate file is wrong.
    """
    await to_thread.run_sync(_trust, settings)
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=settings.timeout_s)) as session:
        yield Server(name, url, session, settings)


def _trust(settings: SetupSettings) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=settings.ca_file)
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(
            f"ca_file: {settings.ca_file} cannot be read as a PEM certificate authority: {error}; nothing was done"
        ) from None
