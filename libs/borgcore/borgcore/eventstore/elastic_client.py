"""The client of Elasticsearch: one try per request, bodies passed through as bytes."""

import logging
import os
import warnings
from ssl import SSLError
from typing import Any

from elastic_transport import NodeConfig, SerializerCollection
from elasticsearch import AsyncElasticsearch, ElasticsearchWarning
from elasticsearch.compat import DISABLE_WARN_STACKLEVEL_ENV_VAR

from borgcore.errors import SettingsError
from borgcore.eventstore.open import Address
from borgcore.eventstore.settings import StoreSettings

CONNECTIONS = 16  # at once; the settings of the pipeline bound its requests

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


def make_client(settings: StoreSettings, address: Address) -> AsyncElasticsearch:
    """Make the client, which reads the certificate file; retries, parsing and error texts are ours.

    Raises:
        SettingsError: the certificate file is wrong.
    """
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
        if not settings.ca_file.is_file():
            raise SettingsError(
                f"store ca_file: {settings.ca_file} is no file; expected a PEM certificate authority; "
                "nothing was started"
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
