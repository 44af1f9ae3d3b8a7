"""Kafka's URL, what aiokafka is told, and how its errors read."""

import logging
import ssl
from pathlib import Path
from typing import Any

import pytest
import trustme
from aiokafka import errors
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from borgcore.errors import SettingsError
from borgcore.eventlog.kafka.client import address_of, client_options, is_refusal, log_error
from borgcore.settings.addresses import KafkaUrl, read_kafka_url
from borgcore.settings.sections import EventsSettings


@pytest.mark.parametrize(
    ("url", "expected", "address"),
    [
        ("kafka://one:9092", KafkaUrl((("one", 9092),), tls=False), "one:9092"),
        ("kafka://one", KafkaUrl((("one", 9092),), tls=False), "one:9092"),
        ("kafka+ssl://a.b-c:1,d:65535/", KafkaUrl((("a.b-c", 1), ("d", 65535)), tls=True), "a.b-c:1,d:65535"),
        (
            "kafka://[::1]:9,127.0.0.1",
            KafkaUrl((("[::1]", 9), ("127.0.0.1", 9092)), tls=False),
            "[::1]:9,127.0.0.1:9092",
        ),
    ],
)
def test_a_url_names_its_brokers(url: str, expected: KafkaUrl, address: str) -> None:
    assert read_kafka_url(url) == expected
    assert address_of(EventsSettings(url=url)) == f"Kafka at {address}"


@pytest.mark.parametrize(
    "url",
    [
        "kafka://user:secret@one:9092",
        "kafka://one:9092,user:secret@two",
        "kafka://one:secret",
        "kafka://one:9092/secret",
        "kafka://one:9092?password=secret",
        "kafka://one:9092#secret",
        "kafka://one:0,secret",
        "kafka://secret:65536",
        "kafka://secret:999999",
        "kafka://",
        "kafka://,",
        "kafka://one:9092,",
        "kafka://sec ret:9092",
    ],
)
def test_a_wrong_url_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(SettingsError) as caught:
        address_of(EventsSettings(url=url))
    text = str(caught.value)
    assert "secret" not in text
    assert "one" not in text.replace("none", "")
    assert text.startswith("events url: ")
    assert text.endswith("nothing was started")


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        url = read_kafka_url(f"kafka://{text}")
    except SettingsError:
        return
    assert url.brokers
    assert all(host and 0 < port < 65536 for host, port in url.brokers)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"url": "kafka://one"}, {"security_protocol": "PLAINTEXT"}),
        ({"url": "kafka+ssl://one"}, {"security_protocol": "SSL"}),
        (
            {"url": "kafka://one", "user": "me", "password": SecretStr("word"), "sasl": "PLAIN"},
            {
                "security_protocol": "SASL_PLAINTEXT",
                "sasl_mechanism": "PLAIN",
                "sasl_plain_username": "me",
                "sasl_plain_password": "word",
            },
        ),
        (
            {"url": "kafka+ssl://one", "user": "me", "password": SecretStr("word")},
            {
                "security_protocol": "SASL_SSL",
                "sasl_mechanism": "SCRAM-SHA-512",
                "sasl_plain_username": "me",
                "sasl_plain_password": "word",
            },
        ),
    ],
)
async def test_clients_get_the_options_to_connect(given: dict[str, Any], expected: dict[str, Any]) -> None:
    options = await client_options(EventsSettings(timeout_s=1.5, **given))
    context = options.pop("ssl_context", None)
    assert options == {"bootstrap_servers": ["one:9092"], "request_timeout_ms": 1500, **expected}
    assert (context is not None) == given["url"].startswith("kafka+ssl")
    if context is not None:
        assert context.verify_mode == ssl.CERT_REQUIRED
        assert context.check_hostname


async def test_the_authority_given_is_the_only_one_trusted(tmp_path: Path) -> None:
    trustme.CA().cert_pem.write_to_path(tmp_path / "ca.pem")
    options = await client_options(EventsSettings(url="kafka+ssl://one", ca_file=tmp_path / "ca.pem"))
    assert len(options["ssl_context"].get_ca_certs()) == 1


async def test_a_ca_file_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty.pem").touch()
    for name in ("missing.pem", "empty.pem"):
        with pytest.raises(SettingsError) as caught:
            await client_options(EventsSettings(url="kafka+ssl://one", ca_file=tmp_path / name))
        assert str(caught.value) == (
            f"events ca_file: {tmp_path / name} is no PEM certificate authority; nothing was started"
        )


async def test_a_user_without_password_is_refused() -> None:
    with pytest.raises(SettingsError, match="events password: none is given for the Kafka user"):
        await client_options(EventsSettings(url="kafka://one", user="me"))


async def test_aiokafka_is_silenced_unless_somebody_wants_to_hear_it() -> None:
    logger = logging.getLogger("aiokafka")
    before = logger.level
    try:
        logger.setLevel(logging.NOTSET)
        await client_options(EventsSettings(url="kafka://one"))
        assert not logging.getLogger("aiokafka.conn").isEnabledFor(logging.ERROR)
        logger.setLevel(logging.DEBUG)
        await client_options(EventsSettings(url="kafka://one"))
        assert logger.level == logging.DEBUG
    finally:
        logger.setLevel(before)


@pytest.mark.parametrize(
    ("error", "text", "refusal"),
    [
        (errors.SaslAuthenticationFailed("bad"), "refused the user or the password; check BORG_EVENTS_USER", True),
        (errors.UnsupportedSaslMechanismError("X"), "does not offer the SASL mechanism asked for", True),
        (errors.TopicAuthorizationFailedError("t"), "denies this user a permission that is needed: [Error 29]", True),
        (errors.GroupAuthorizationFailedError("g"), "denies this user a permission that is needed: [Error 30]", True),
        (errors.RequestTimedOutError(), "gave no answer in time", False),
        (TimeoutError(), "gave no answer in time", False),
        (ssl.SSLError(1, "bad certificate"), "cannot be reached over TLS: ", False),
        (ConnectionRefusedError(111, "refused"), "cannot be reached: [Errno 111] refused", False),
        (EOFError(), "cannot be reached: EOFError", False),
        (errors.KafkaConnectionError("a\n  b"), "cannot be reached: KafkaConnectionError: a b", False),
        (errors.CommitFailedError(), "answered with an error: CommitFailedError: Commit cannot be completed", False),
    ],
)
def test_errors_are_one_line_with_the_server_and_the_cause(error: Exception, text: str, refusal: bool) -> None:
    line = str(log_error(error, "Kafka at one:9092"))
    assert line.startswith(f"Kafka at one:9092 {text}")
    assert "\n" not in line
    assert is_refusal(error) is refusal
