"""How to reach Kafka: its URL, what aiokafka's clients are told, its topics, and what its errors mean.

A password that was written into the URL splits it in unexpected partitions, so nothing of a wrong URL is ever repeated.
"""

import logging
import ssl
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import anyio
from aiokafka import errors
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.conn import create_conn
from anyio import to_thread

from borgcore.errors import EventLogError, SettingsError
from borgcore.eventlog.kafka.closing import close_admin
from borgcore.settings.addresses import read_kafka_url
from borgcore.settings.sections import EventsSettings

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
_RAISED = (errors.KafkaError, OSError, EOFError, UnicodeError)  # the last: a host name that cannot be one


def address_of(settings: EventsSettings) -> str:
    """Name the brokers in words that logs and errors may show.

    Raises:
        SettingsError: the URL is wrong.
    """
    return f"Kafka at {read_kafka_url(settings.url).address}"


async def client_options(settings: EventsSettings, timeout_s: float | None = None) -> dict[str, Any]:
    """Collect what every client of aiokafka is told; ``timeout_s`` is the longest wait for one reply.

    Raises:
        SettingsError: the URL, the certificate file or the credentials are wrong.
    """
    if logging.getLogger("aiokafka").level == logging.NOTSET:  # it would say each try; we say each outage, once
        logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    url = read_kafka_url(settings.url)
    options: dict[str, Any] = {
        "bootstrap_servers": [f"{host}:{port}" for host, port in url.brokers],
        "request_timeout_ms": round((timeout_s or settings.timeout_s) * 1000),
    }
    if url.tls:
        options["ssl_context"] = await to_thread.run_sync(_trust, settings)  # it reads files
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
    """Whether Kafka refuses us: trying again does not help before something is mended."""
    return isinstance(error, (*_UNKNOWN_CREDENTIALS, *_UNKNOWN_MECHANISM, *_FORBIDDEN))


def log_error(error: BaseException, where: str) -> EventLogError:
    """Turn what aiokafka raised into one line that names the server and the cause."""
    text = " ".join(str(error).split()) or type(error).__name__
    match error:
        case _ if isinstance(error, _UNKNOWN_CREDENTIALS):
            line = f"{where} refused the user or the password; check BORG_EVENTS_USER and BORG_EVENTS_PASSWORD"
        case _ if isinstance(error, _UNKNOWN_MECHANISM):
            line = f"{where} does not offer the SASL mechanism asked for; check BORG_EVENTS_SASL: {text}"
        case _ if isinstance(error, _FORBIDDEN):
            line = f"{where} does not permit this user what is needed: {text}"
        case ssl.SSLError():
            line = f"{where} cannot be spoken to by TLS: {text}"
        case _ if isinstance(error, _SLOW):
            line = f"{where} gave no answer in time"
        case OSError() | EOFError() | errors.KafkaConnectionError():
            line = f"{where} cannot be reached: {text}"
        case _:
            line = f"{where} answered with an error: {text}"
    return EventLogError(line)


@contextmanager
def named_errors(where: str, limit_s: float) -> Iterator[None]:
    """Bound what happens inside, and turn what aiokafka raises there into one line.

    Raises:
        EventLogError: something was raised, or took longer than ``limit_s``.
    """
    try:
        with anyio.fail_after(limit_s):
            yield
    except _RAISED as error:
        raise log_error(error, where) from error


async def probe(settings: EventsSettings) -> None:
    """Connect to one of the brokers and authenticate; aiokafka's clients hide why they cannot.

    Raises:
        OSError, EOFError, KafkaError: none of them took us; of several causes a refusal.
    """
    options = await client_options(settings)
    del options["bootstrap_servers"]
    causes: list[Exception] = []
    for host, port in read_kafka_url(settings.url).brokers:
        try:
            connection = await create_conn(host.strip("[]"), port, **options)
        except _RAISED as error:
            causes.append(error)
        else:
            await connection.close()
            return
    raise next(filter(is_refusal, causes), causes[0])


@asynccontextmanager
async def open_admin(settings: EventsSettings) -> AsyncIterator[AIOKafkaAdminClient]:
    """Connect for questions about the cluster; to be used inside :func:`named_errors`."""
    await probe(settings)
    admin = AIOKafkaAdminClient(**await client_options(settings))
    try:
        await admin.start()
        yield admin
    finally:
        await close_admin(admin)


async def ensure_topics(settings: EventsSettings, topics: Iterable[str]) -> None:
    """Create the topics that are missing; that another creates them at the same time is fine.

    Raises:
        EventLogError: Kafka is absent, refuses us, or does not let us create what is missing.
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
    """Create topics that are missing, or only ask whether Kafka lets us.

    Raises:
        EventLogError: it does not.
        KafkaError: it gave no answer.
    """
    new = [NewTopic(name, settings.partitions, settings.replication) for name in names]
    try:
        reply = await admin.create_topics(new, validate_only=only_ask)
    except AttributeError:  # aiokafka trips over a controller that is None
        raise errors.KafkaConnectionError("its brokers have no controller yet") from None
    for name, code, *rest in reply.topic_errors:
        kind = errors.for_code(code)
        if kind not in {errors.NoError, errors.TopicAlreadyExistsError}:
            raise EventLogError(
                f"{address_of(settings)} does not let us create the topic {name}, which is missing: "
                f"{kind.__name__}: {rest[0] if rest else ''}; create it with {settings.partitions} partitions; nothing "
                "is published or read before it is there"
            )
