"""Connects to Kafka: options for aiokafka's clients, topics, and errors turned into one line.

A password in a URL can end up in any of its parts, so error texts never quote an invalid URL.
"""

import logging
import ssl
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import anyio
import structlog
from aiokafka import errors
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.client import AIOKafkaClient
from aiokafka.conn import create_conn
from aiokafka.protocol.metadata import MetadataRequest
from anyio import to_thread

from borgcore.errors import EventLogError, SettingsError
from borgcore.eventlog.kafka.closing import close_admin
from borgcore.settings.addresses import read_kafka_url
from borgcore.settings.sections import EventsSettings

_log = structlog.get_logger()
_UNKNOWN_CREDENTIALS = (errors.SaslAuthenticationFailed, errors.AuthenticationFailedError)
_UNKNOWN_MECHANISM = (
    errors.UnsupportedSaslMechanismError,
    errors.IllegalSaslStateError,
    errors.AuthenticationMethodNotSupported,
)
_FORBIDDEN = (
    errors.TopicAuthorizationFailedError,
    errors.GroupAuthorizationFailedError,
    errors.ClusterAuthorizationFailedError,
)
_SLOW = (TimeoutError, errors.KafkaTimeoutError, errors.RequestTimedOutError)
_RAISED = (errors.KafkaError, OSError, EOFError, UnicodeError)  # UnicodeError: an impossible host name


class KafkaLoginRefusedError(errors.AuthenticationFailedError):  # type: ignore[misc]  # aiokafka has no types
    """Kafka refuses a login that is read from files, so the files may be about to change; the text is their note."""


def address_of(settings: EventsSettings) -> str:
    """Return the brokers' addresses as logs and errors show them, without secrets.

    Raises:
        SettingsError: the URL is invalid.
    """
    return f"Kafka at {read_kafka_url(settings.url).address}"


async def client_options(settings: EventsSettings, timeout_s: float | None = None) -> dict[str, Any]:
    """Return the options that all aiokafka clients share, with the login as last read.

    ``timeout_s`` bounds the wait for one reply.

    Raises:
        SettingsError: the URL, the certificate file or the credentials are wrong.
    """
    if logging.getLogger("aiokafka").level == logging.NOTSET:  # it would log every try; we log each outage once
        logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    settings, url = settings.newest, read_kafka_url(settings.url)
    options: dict[str, Any] = {
        "bootstrap_servers": [f"{host}:{port}" for host, port in url.brokers],
        "request_timeout_ms": round((timeout_s or settings.timeout_s) * 1000),
    }
    if url.tls:
        options["ssl_context"] = await to_thread.run_sync(_trust, settings)  # reads files
    if settings.user is None:
        options["security_protocol"] = "SSL" if url.tls else "PLAINTEXT"
        return options
    if settings.password is None:
        raise SettingsError("events password: none is given for the Kafka user; expected one; nothing was started")
    return options | {
        "security_protocol": "SASL_SSL" if url.tls else "SASL_PLAINTEXT",
        "sasl_mechanism": settings.sasl,
        "sasl_plain_username": settings.user,
        "sasl_plain_password": settings.password.get_secret_value(),
    }


def _trust(settings: EventsSettings) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=settings.ca_file)
    except (OSError, ssl.SSLError):
        raise SettingsError(
            f"events ca_file: {settings.ca_file} is no PEM certificate authority; nothing was started"
        ) from None


def is_refusal(error: BaseException) -> bool:
    """Return whether Kafka refuses us, so that trying again does not help until someone fixes the cause.

    A login that may be about to change is not meant, see :class:`KafkaLoginRefusedError`.
    """
    return not isinstance(error, KafkaLoginRefusedError) and isinstance(
        error, (*_UNKNOWN_CREDENTIALS, *_UNKNOWN_MECHANISM, *_FORBIDDEN)
    )


def log_error(error: BaseException, where: str) -> EventLogError:
    """Turn an error of aiokafka into one line that names the server and the cause."""
    text = " ".join(str(error).split()) or type(error).__name__
    match error:
        case _ if isinstance(error, _UNKNOWN_CREDENTIALS):
            line = f"{where} refused the user or the password; check BORG_EVENTS_USER and BORG_EVENTS_PASSWORD"
            line += str(error) if isinstance(error, KafkaLoginRefusedError) else ""
        case _ if isinstance(error, _UNKNOWN_MECHANISM):
            line = f"{where} does not offer the SASL mechanism asked for; check BORG_EVENTS_SASL: {text}"
        case _ if isinstance(error, _FORBIDDEN):
            line = f"{where} denies this user a permission that is needed: {text}"
        case ssl.SSLError():
            line = f"{where} cannot be reached over TLS: {text}"
        case _ if isinstance(error, _SLOW):
            line = f"{where} gave no answer in time"
        case OSError() | EOFError() | errors.KafkaConnectionError():
            line = f"{where} cannot be reached: {text}"
        case _:
            line = f"{where} answered with an error: {text}"
    return EventLogError(line)


def file_error(error: SettingsError, where: str) -> EventLogError:
    """Turn an error about a file that was right at the start, and may be about to be replaced, into one of the log."""
    return EventLogError(f"{where} is not connected: {str(error).removesuffix('; nothing was started')}")


@contextmanager
def named_errors(where: str, limit_s: float) -> Iterator[None]:
    """Limit the block to ``limit_s`` seconds and turn aiokafka's errors inside it into EventLogError.

    Raises:
        EventLogError: aiokafka raised an error, or the block took longer than ``limit_s``.
    """
    try:
        with anyio.fail_after(limit_s):
            yield
    except _RAISED as error:
        raise log_error(error, where) from error


async def find_server(settings: EventsSettings) -> str:
    """Ask all bootstrap servers side by side, and return the address of the first that answers.

    aiokafka's clients ask one after the other, wait for a silent one as long as for the slowest reply, and hide why
    they cannot connect.

    A refused login is read again, and tried again if it has changed.

    Raises:
        OSError, EOFError, KafkaError: none answered within ``timeout_s``; of several causes a refusal is preferred.
        SettingsError: the certificate file is wrong.
    """
    used = settings.newest
    try:
        try:
            return await _ask_all(settings)
        except _UNKNOWN_CREDENTIALS:
            if await settings.read_again() == used:
                raise
            server = await _ask_all(settings)
            _log.info("event_log_login_renewed", address=read_kafka_url(settings.url).address)
            return server
    except _UNKNOWN_CREDENTIALS as error:
        if settings.source is None:
            raise
        raise KafkaLoginRefusedError(settings.read_again_note) from error


async def renew_login(client: AIOKafkaClient, settings: EventsSettings) -> None:
    """Give a client that is in use the login and the authority as last read, for its next connections.

    Raises:
        SettingsError: the certificate file is wrong.
    """
    options = await client_options(settings)
    for name in ("ssl_context", "sasl_mechanism", "sasl_plain_username", "sasl_plain_password"):
        if name in options:
            setattr(client, f"_{name}", options[name])  # there is no public API


async def _ask_all(settings: EventsSettings) -> str:
    options = await client_options(settings)
    servers = options.pop("bootstrap_servers")
    causes: dict[str, Exception] = {}
    answered: list[str] = []

    async def ask(server: str) -> None:
        host, _, port = server.rpartition(":")
        try:
            with anyio.fail_after(settings.timeout_s):
                connection = await create_conn(host.strip("[]"), int(port), **options)
                try:
                    await connection.send(MetadataRequest([]))
                finally:
                    connection.close()
        except _RAISED as error:
            causes[server] = error
        else:
            answered.append(server)
            group.cancel_scope.cancel()

    async with anyio.create_task_group() as group:
        for server in servers:
            group.start_soon(ask, server)
    if answered:
        return answered[0]
    raise next(filter(is_refusal, causes.values()), causes[servers[0]])


async def connect_options(settings: EventsSettings, timeout_s: float | None = None) -> dict[str, Any]:
    """Return :func:`client_options` with a server that answers; use it inside :func:`named_errors`."""
    server = await find_server(settings)  # first: it may read a new login
    return await client_options(settings, timeout_s) | {"bootstrap_servers": [server]}


@asynccontextmanager
async def open_admin(settings: EventsSettings) -> AsyncIterator[AIOKafkaAdminClient]:
    """Open an admin client; use it inside :func:`named_errors`."""
    admin = AIOKafkaAdminClient(**await connect_options(settings))
    try:
        await admin.start()
        yield admin
    finally:
        await close_admin(admin)


async def ensure_topics(settings: EventsSettings, topics: Iterable[str]) -> None:
    """Create missing topics; another process may create them at the same time.

    Raises:
        EventLogError: Kafka cannot be reached, refuses us, or does not let us create a missing topic.
    """
    where = address_of(settings)
    wanted = {f"{settings.prefix}{topic}" for topic in topics}
    with named_errors(where, 3 * settings.timeout_s):
        async with open_admin(settings) as admin:
            missing = sorted(wanted - set(await admin.list_topics()))
            if missing:
                await create_topics(admin, settings, missing)


async def create_topics(
    admin: AIOKafkaAdminClient, settings: EventsSettings, names: Sequence[str], *, only_ask: bool = False
) -> None:
    """Create topics, or with ``only_ask`` only check that Kafka would let us.

    Raises:
        EventLogError: Kafka does not let us.
        KafkaError: Kafka did not answer.
    """
    new = [NewTopic(name, settings.partitions, settings.replication) for name in names]
    try:
        reply = await admin.create_topics(new, validate_only=only_ask)
    except AttributeError:  # aiokafka fails so while the cluster has no controller
        raise errors.KafkaConnectionError("its brokers have no controller yet") from None
    for name, code, *rest in reply.topic_errors:
        kind = errors.for_code(code)
        if kind not in {errors.NoError, errors.TopicAlreadyExistsError}:
            raise EventLogError(
                f"{address_of(settings)} does not let us create the topic {name}, which is missing: "
                f"{kind.__name__}: {rest[0] if rest else ''}; create it with {settings.partitions} partitions; nothing "
                "is published or read until it exists"
            )
