"""The store in Elasticsearch: one ``_bulk`` request per write, one index per topic and month."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.to_thread
import orjson
import structlog
from elastic_transport import ConnectionTimeout, TlsError, TransportError
from elasticsearch import ApiError, UnsupportedProductError

from borgcore.events.elasticsearch_templates import index_template
from borgcore.events.template_changes import find_template, list_changes
from borgcore.events.topics import TOPICS
from borgcore.eventstore.elastic_client import ElasticClient
from borgcore.eventstore.open import Address
from borgcore.eventstore.settings import StoreSettings
from borglogshipper.stores.answers import read_error, read_verdicts
from borglogshipper.stores.store import (
    Documents,
    Outcome,
    StoreBusyError,
    StoreHeldError,
    StoreRefusedError,
    StoreTooLargeError,
    Verdict,
)

CLOSE_TIMEOUT_S = 2.0
MAJORS = (8, 9)  # the client of version 8 speaks plain JSON with both; only 8.19 was run
_UNKNOWN_LOGIN = 401
_BULK = "/_bulk?filter_path=errors,items.*.status,items.*.error.type,items.*.error.reason"
_MGET = "/_mget?filter_path=docs.found,docs._source,docs.error.type,docs.error.reason"
_HAS_PRIVILEGES = "/_security/user/_has_privileges"
_INDEX_PRIVILEGES = ["create_doc", "read", "indices:admin/auto_create"]
_GRANTED_BY = {"indices:admin/auto_create": "auto_configure or create_index"}  # action -> privileges that grant it
_JSON = {"accept": "application/json", "content-type": "application/json"}
_NDJSON = {"accept": "application/json", "content-type": "application/x-ndjson"}
_FORBIDDEN = 403
_NOT_FOUND = 404
_log = structlog.get_logger()


class _Heads(dict[str, bytes]):
    """Index -> the bytes in ``_bulk`` between the previous document and an id."""

    def __init__(self, prefix: str) -> None:
        super().__init__()
        self._prefix = prefix

    def __missing__(self, index: str) -> bytes:
        self[index] = b'\n{"create":{"_index":%s,"_id":"' % orjson.dumps(self._prefix + index)
        return self[index]


class ElasticStore:
    """Documents in Elasticsearch."""

    keeps_dead_letters = False  # whoever runs one runs a log in which they can be read

    def __init__(self, client: ElasticClient, address: Address, settings: StoreSettings) -> None:
        self._client = client
        self._address = address
        self._where = f"Elasticsearch at {address}"
        self._prefix = settings.prefix
        self._replicas = settings.replicas
        self._templates = TOPICS if settings.templates else ()
        self._cluster_privileges = ["manage_index_templates"] if settings.templates else []
        self._timeout_s = settings.timeout_s
        self._heads = _Heads(settings.prefix)

    async def check(self) -> str:
        """Verify address, version and privileges, see :meth:`.Store.check`."""
        version = await self._check_version()
        return f"Elasticsearch {version} at {self._address}, {await self._check_privileges()}"

    async def prepare(self) -> None:
        """Verify the version, install the index templates that no operator changed, see :meth:`.Store.prepare`."""
        await self._check_version(denied_status=_FORBIDDEN)
        for topic in self._templates:
            name = f"{self._prefix}{topic}"
            wanted = index_template(topic, self._prefix, self._replicas)
            if changes := list_changes(await self._find_template(name), wanted):
                _log.warning("index_template_kept", template=name, changes=changes)
            else:
                await self._ask("PUT", f"/_index_template/{name}", orjson.dumps(wanted))

    async def _check_version(self, denied_status: int | None = None) -> str:
        """Return the version; "" if the server answers ``denied_status``: whoever may not see it may still write."""
        try:
            found = _parse(await self._ask("GET", "/", accepted_status=denied_status))
            if denied_status is not None and found.get("status") == denied_status:
                return ""
            version = str(found["version"]["number"])
            major = int(version.partition(".")[0])
        except (ValueError, KeyError, TypeError, AttributeError):
            raise StoreHeldError(f"{self._where} is not Elasticsearch: its answer to GET / names no version") from None
        if major not in MAJORS:
            raise StoreHeldError(f"{self._where} is {version}, expected version {' or '.join(map(str, MAJORS))}")
        return version

    async def _find_template(self, name: str) -> dict[str, Any] | None:
        answer = await self._ask("GET", f"/_index_template/{name}", accepted_status=_NOT_FOUND)
        try:
            return find_template(_parse(answer), name)
        except (ValueError, KeyError, TypeError, AttributeError):
            raise StoreBusyError(
                f"{self._where} answered _index_template with something else; it is asked again"
            ) from None

    async def write(self, documents: Documents) -> Mapping[int, Verdict]:
        """Create documents by one ``_bulk`` request, see :meth:`.Store.write`."""
        if not len(documents):
            return {}
        parts: list[bytes] = [b'"}}\n'] * (4 * len(documents) + 1)
        parts[0:-1:4] = map(self._heads.__getitem__, documents.indices)
        parts[1:-1:4] = map(str.encode, documents.ids)
        parts[3:-1:4] = documents.bodies
        parts[0], parts[-1] = parts[0][1:], b"\n"
        try:
            answer = await self._send("POST", _BULK, b"".join(parts), _NDJSON)
        except StoreRefusedError as error:
            await self._hold_if_all_is_refused(documents.indices[0], error)
            raise
        verdicts = read_verdicts(answer, documents.indices, self._prefix, self._where)
        if any(verdict.outcome is Outcome.HELD for verdict in verdicts.values()):  # perhaps another key may
            await self._client.renew()
        return verdicts

    async def _hold_if_all_is_refused(self, index: str, refusal: StoreRefusedError) -> None:
        """Send a request without documents: if that is refused as well, no document is the cause.

        A server that forbids index names in requests refuses it, and so does a proxy that changes paths. Any other
        server accepts it and refuses its one item, which is not an object; nothing is stored either way.
        """
        try:
            await self._send("POST", _BULK, self._heads[index][1:] + b'none"}}\n0\n', _NDJSON)
        except (StoreRefusedError, StoreTooLargeError):
            raise StoreHeldError(f"{refusal}; it also refuses a request without documents") from None

    async def read(self, indices: Sequence[str], ids: Sequence[str]) -> list[bytes | None]:
        """Fetch documents by one ``_mget`` request, see :meth:`.Store.read`."""
        wanted = [{"_index": self._prefix + index, "_id": id_} for index, id_ in zip(indices, ids, strict=True)]
        if not wanted:
            return []
        answer = await self._ask("POST", _MGET, orjson.dumps({"docs": wanted}))
        try:
            found = [self._source(document) for document in _parse(answer)["docs"]]
        except (ValueError, KeyError, TypeError, AttributeError):
            raise StoreBusyError(f"{self._where} answered _mget with something else; it is asked again") from None
        if len(found) != len(wanted):
            raise StoreBusyError(f"{self._where} answered for {len(found)} of {len(wanted)} ids; it is asked again")
        return found

    def _source(self, document: Mapping[str, Any]) -> bytes | None:
        """Return a document of an ``_mget`` answer, or None if it or its index is missing."""
        error = document.get("error")
        if error is not None and error["type"] != "index_not_found_exception":
            raise StoreHeldError(f"{self._where} refused to read: {error['type']}: {error['reason']}")
        return orjson.dumps(document["_source"]) if document.get("found") else None

    async def _check_privileges(self) -> str:
        patterns = [f"{self._prefix}{topic}-*" for topic in TOPICS]
        index = [{"names": patterns, "privileges": _INDEX_PRIVILEGES}]
        wanted = {"cluster": self._cluster_privileges, "index": index}
        try:
            answer = await self._send("POST", _HAS_PRIVILEGES, orjson.dumps(wanted), _JSON)
        except StoreRefusedError:  # security is off: the path does not exist
            return "security is off"
        try:
            found = _parse(answer)
            missing = [f"cluster:{name}" for name in self._cluster_privileges if not found["cluster"][name]]
            for pattern in patterns:
                granted = found["index"][pattern]
                missing += [
                    f"{pattern}:{_GRANTED_BY.get(name, name)}" for name in _INDEX_PRIVILEGES if not granted[name]
                ]
            user = str(found["username"])
        except (ValueError, KeyError, TypeError):
            raise StoreBusyError(f"{self._where} does not name the granted privileges") from None
        if missing:
            raise StoreHeldError(f"{self._where} does not grant {user}: {', '.join(missing)}; all are needed")
        return f"as {user}"

    async def _ask(
        self, method: str, path: str, body: bytes | None = None, *, accepted_status: int | None = None
    ) -> bytes:
        """Send a request that can fail only for the server's state; ``accepted_status`` is no failure."""
        try:
            return await self._send(method, path, body, _JSON, accepted_status)
        except (StoreRefusedError, StoreTooLargeError) as error:
            raise StoreHeldError(str(error)) from None

    async def _send(
        self,
        method: str,
        path: str,
        body: bytes | None,
        headers: Mapping[str, str],
        accepted_status: int | None = None,
    ) -> bytes:
        try:
            response = await self._client.perform_request(method, path, body, headers)
        except UnsupportedProductError as error:
            raise StoreHeldError(
                f"{self._where} is not Elasticsearch: it answered {error.meta.status} without naming its product"
            ) from None
        except ApiError as error:
            if error.status_code == accepted_status:
                return bytes(error.body)
            found = read_error(error.status_code, error.body, self._where)
            if error.status_code == _UNKNOWN_LOGIN:
                found = StoreHeldError(f"{found}{self._client.login_note}")
            raise found from None
        except TlsError as error:
            raise StoreHeldError(f"{self._where} cannot be trusted: {error.message}{self._client.trust_note}") from None
        except ConnectionTimeout:
            raise StoreBusyError(f"{self._where} gave no answer in time ({self._timeout_s:g} s)") from None
        except TransportError as error:
            raise StoreBusyError(f"{self._where} cannot be reached: {error.message}") from None
        return bytes(response.body)


@asynccontextmanager
async def open_elastic(settings: StoreSettings, address: Address) -> AsyncIterator[ElasticStore]:
    """Open the store for the block.

    Raises:
        SettingsError: the certificate file is wrong.
    """
    client = await anyio.to_thread.run_sync(ElasticClient, settings, address)
    try:
        yield ElasticStore(client, address, settings)
    finally:
        with anyio.move_on_after(CLOSE_TIMEOUT_S, shield=True):
            await client.close()


def _parse(answer: bytes) -> Any:
    return orjson.loads(answer)
