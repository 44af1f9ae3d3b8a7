"""The client of Elasticsearch: bodies passed through as bytes, login and authority read again when refused."""

import asyncio
import logging
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from ssl import SSLError
from typing import Any, NamedTuple

import anyio
import structlog
from elastic_transport import ApiResponse, NodeConfig, SerializerCollection, TlsError
from elasticsearch import ApiError, AsyncElasticsearch, ElasticsearchWarning
from elasticsearch.compat import DISABLE_WARN_STACKLEVEL_ENV_VAR

from borgcore.errors import SettingsError
from borgcore.eventstore.open import Address, check_login
from borgcore.eventstore.settings import StoreSettings

CONNECTIONS = 16  # at once; the settings of the pipeline bound its requests
_REFUSED = frozenset({401, 403})
_log = structlog.get_logger()

# The client logs every failed try of a node; the pipeline logs each outage once.
logging.getLogger("elastic_transport").addHandler(logging.NullHandler())
# For each warning of the server the client would read source files, on the event loop, to name the caller.
os.environ.setdefault(DISABLE_WARN_STACKLEVEL_ENV_VAR, "true")


class _AsIs(SerializerCollection):
    """Pass bodies through as bytes, so that an answer of any type arrives instead of an error."""

    def dumps(self, data: Any, mimetype: str | None = None) -> bytes:  # noqa: ARG002  # the client's signature
        return bytes(data)

    def loads(self, data: bytes, mimetype: str | None = None) -> Any:  # noqa: ARG002  # the client's signature
        return data


class ElasticClient:
    """One try per request, and a second one if the login or the authority's file has changed since the last."""

    def __init__(self, settings: StoreSettings, address: Address) -> None:
        """Read the certificate file; blocks.

        Raises:
            SettingsError: it is wrong.
        """
        self._settings = settings
        self._address = address
        self._connected = _connect(settings, address)
        self._renewing = asyncio.Lock()

    @property
    def login_note(self) -> str:
        """What an error about a refused login adds."""
        return self._settings.read_again_note

    @property
    def trust_note(self) -> str:
        """What an error about an unknown authority adds."""
        ca_file = self._connected.settings.ca_file
        return "" if ca_file is None else f"; {ca_file} is read again at each try"

    async def perform_request(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]
    ) -> ApiResponse[Any]:
        """Send a request; raises what elasticsearch raises."""
        used = self._connected
        try:
            return await used.client.perform_request(method, path, body=body, headers=headers)
        except (ApiError, TlsError) as error:
            if isinstance(error, ApiError) and error.status_code not in _REFUSED:
                raise
            if not await self.renew(used):
                raise
        return await self._connected.client.perform_request(method, path, body=body, headers=headers)

    async def renew(self, used: "_Connected | None" = None) -> bool:
        """Read login and authority again; return whether they differ from those ``used``, by default the present ones.

        Requests under way with the old login may fail; they are repeated like after any lost connection.
        """
        used = used or self._connected
        async with self._renewing:
            if self._connected is not used:
                return True
            settings = await self._settings.read_again()
            try:
                found = await asyncio.to_thread(_connect, settings, self._address, used)
            except SettingsError as error:
                _log.warning("store_login_kept", reason=str(error).removesuffix("; nothing was started"))
                return False
            if found is used:
                return False
            self._connected = found
        _log.info("store_login_renewed", address=str(self._address))
        with anyio.CancelScope(shield=True):
            await used.client.close()
        return True

    async def close(self) -> None:
        """Close all connections."""
        await self._connected.client.close()


class _Connected(NamedTuple):
    """A client, and what it was made of."""

    client: AsyncElasticsearch
    settings: StoreSettings
    authority: bytes


def _connect(settings: StoreSettings, address: Address, used: _Connected | None = None) -> _Connected:
    """Make a client, or return the one ``used`` if nothing has changed."""
    check_login(settings)
    authority = b"" if settings.ca_file is None else _read_authority(settings.ca_file)
    if used is not None and (used.settings, used.authority) == (settings, authority):
        return used
    return _Connected(_make_client(settings, address), settings, authority)


def _read_authority(ca_file: Path) -> bytes:
    try:
        return ca_file.read_bytes()
    except OSError:
        raise SettingsError(
            f"store ca_file: {ca_file} is no file; expected a PEM certificate authority; nothing was started"
        ) from None


def _make_client(settings: StoreSettings, address: Address) -> AsyncElasticsearch:
    """Make a client; retries, parsing and error texts are ours."""
    warnings.filterwarnings("ignore", category=ElasticsearchWarning)  # for old templates and the like, once per request
    warnings.filterwarnings("ignore", "Sending a large body directly", ResourceWarning)  # sending it takes 1 ms
    options: dict[str, Any] = {}
    if settings.api_key is not None:
        options["api_key"] = settings.api_key.get_secret_value()
    elif settings.user is not None and settings.password is not None:
        options["basic_auth"] = (settings.user, settings.password.get_secret_value())
    if settings.ca_file is not None:
        if address.scheme != "https":
            raise SettingsError(
                "store ca_file: found one beside an http:// url, expected https://; nothing was started"
            )
        options["ca_certs"] = str(settings.ca_file)
    try:
        client = AsyncElasticsearch(
            [NodeConfig(address.scheme, address.host, address.port, path_prefix=address.path)],
            request_timeout=settings.timeout_s,
            connections_per_node=CONNECTIONS,
            max_retries=0,
            retry_on_timeout=False,
            retry_on_status=(),
            meta_header=False,
            **options,
        )
    except SSLError:
        raise SettingsError(
            f"store ca_file: {settings.ca_file} holds no certificate; expected a PEM certificate authority; "
            "nothing was started"
        ) from None
    client.transport.serializers = _AsIs()
    return client
