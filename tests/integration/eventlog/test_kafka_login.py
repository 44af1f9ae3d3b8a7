"""The password and the certificate authority of Kafka change while clients are open."""

import re
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import anyio
import pytest
import trustme
from anyio import to_thread
from pydantic import SecretStr
from structlog.testing import capture_logs

from borgcore.errors import EventLogError
from borgcore.eventlog.kafka.outage import KafkaOutage
from borgcore.eventlog.kafka.sender import KafkaSender, open_kafka_sender
from borgcore.eventlog.protocol import Consumer
from borgcore.settings.sections import EventsSettings
from borgmonitor.settings import MonitorSettings
from tests.limits import HANG_S, LONG_TEST_TIMEOUT_S

from .broker import run_broker, tls_properties
from .kafka_log import Reader, events, join, send_until_taken

_REFUSED = "refused the user or the password; check .*; its files are read again at each try$"
pytestmark = pytest.mark.timeout(LONG_TEST_TIMEOUT_S)


async def _load(secrets: Path, url: str) -> EventsSettings:
    options = ("--secrets-dir", str(secrets), "--events-url", url, "--events-sasl", "PLAIN", "--redis-timeout-s", "10")
    return (await to_thread.run_sync(MonitorSettings.load, options)).events


def _accept(properties: str, port: int, user: str, password: str) -> str:
    """Add a listener that accepts one user alone."""
    listener = f",SASL_PLAINTEXT://127.0.0.1:{port}"
    lines = [
        line.replace(",CONTROLLER:", f"{listener},CONTROLLER:") if line.startswith("listeners=") else line
        for line in properties.splitlines()
    ]
    lines = [line + listener if line.startswith("advertised.") else line for line in lines if "plain.sasl" not in line]
    module = "org.apache.kafka.common.security.plain.PlainLoginModule"
    lines.append(f'listener.name.sasl_plaintext.plain.sasl.jaas.config={module} required user_{user}="{password}";')
    return "\n".join(lines) + "\n"


async def test_a_new_user_and_password_in_their_files_are_used_once_the_old_ones_are_refused(
    scripted_kafka: Any, kafka_libs: Path, tmp_path: Path, unused_port: int
) -> None:
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    for name, content in (("user", "borg"), ("password", "one"), ("prefix", "test.")):
        (secrets / f"borg_events_{name}").write_text(content)
    settings = await _load(secrets, f"kafka://127.0.0.1:{unused_port}")
    await to_thread.run_sync(scripted_kafka.stop)
    folder, plain = scripted_kafka.folder, EventsSettings(url=f"kafka://{scripted_kafka.address}")
    properties = (folder / "server.properties").read_text()
    async with AsyncExitStack() as stack:
        async with run_broker(folder, kafka_libs, _accept(properties, unused_port, "borg", "one"), plain):
            sender = await stack.enter_async_context(open_kafka_sender(settings))
            consumer = await stack.enter_async_context(join(settings.model_copy(update={"outage_s": HANG_S})))
            reader = Reader(consumer)
            await _read(reader, await send_until_taken(sender, events(3, "before", keys=1)))
            await consumer.commit(reader.upto)
        with capture_logs() as logs:
            async with run_broker(folder, kafka_libs, _accept(properties, unused_port, "other", "two"), plain):
                with anyio.fail_after(HANG_S):
                    await _refused(sender, _REFUSED)
                    while consumer.outage is None or not consumer.outage.endswith("read again at each try"):
                        await reader.fetch()
                (secrets / "borg_events_user").write_text("other")
                (secrets / "borg_events_password").write_text("two")
                await _read(reader, await send_until_taken(sender, events(3, "after", keys=1)))
                await _commit(consumer, reader)
    assert {entry["event"] for entry in logs} == {"event_log_lost", "event_log_login_renewed", "event_log_regained"}


async def test_a_password_that_stays_wrong_ends_reading_after_the_outage_and_joining_at_once(
    kafka_sasl: tuple[str, str, SecretStr], tmp_path: Path
) -> None:
    address, user, _ = kafka_sasl
    (tmp_path / "borg_events_user").write_text(user)
    (tmp_path / "borg_events_password").write_text("wrong")
    settings = (await _load(tmp_path, f"kafka://{address}")).model_copy(update={"outage_s": 0.1})
    outage = KafkaOutage(settings)
    with anyio.fail_after(HANG_S):
        with pytest.raises(EventLogError, match=_REFUSED):
            async with join(settings):
                pass
        outage.doubt()
        assert not await outage.check()
        await anyio.sleep(2 * settings.outage_s)
        outage.doubt()
        with pytest.raises(EventLogError, match=_REFUSED):
            await outage.check()


async def test_a_certificate_of_a_new_authority_is_trusted_once_the_file_holds_it(
    scripted_kafka: Any, kafka_libs: Path, tmp_path: Path
) -> None:
    await to_thread.run_sync(scripted_kafka.stop)
    folder, ca_file = scripted_kafka.folder, tmp_path / "ca.pem"
    settings = EventsSettings(
        url=f"kafka+ssl://{scripted_kafka.address}", ca_file=ca_file, prefix="test.", timeout_s=10.0
    )
    async with AsyncExitStack() as stack:
        properties = await _certify(folder, ca_file)
        async with run_broker(folder, kafka_libs, properties, settings):
            sender = await stack.enter_async_context(open_kafka_sender(settings))
            consumer = await stack.enter_async_context(join(settings))
            reader = Reader(consumer)
            await _read(reader, await send_until_taken(sender, events(3, "before", keys=1)))
        properties = await _certify(folder, tmp_path / "new.pem")
        new = settings.model_copy(update={"ca_file": tmp_path / "new.pem"})
        async with run_broker(folder, kafka_libs, properties, new):
            await _refused(sender, "CERTIFICATE_VERIFY_FAILED")
            ca_file.write_text("half")
            with anyio.fail_after(HANG_S):
                with pytest.raises(EventLogError, match="is no PEM certificate authority"):
                    await sender.send(events(1, "refused"))
                while consumer.outage is None or "is no PEM certificate authority" not in consumer.outage:
                    await reader.fetch()
            ca_file.write_bytes((tmp_path / "new.pem").read_bytes())
            await _read(reader, await send_until_taken(sender, events(3, "after", keys=1)))
            await _commit(consumer, reader)


async def _refused(sender: KafkaSender, text: str) -> None:
    """Send until the error is this one."""
    error = ""
    with anyio.fail_after(HANG_S):
        while not re.search(text, error):
            with pytest.raises(EventLogError) as caught:
                await sender.send(events(1, "refused"))
            error = str(caught.value)


async def _read(reader: Reader, sent: list[bytes]) -> None:
    with anyio.fail_after(HANG_S):
        while set(sent) - set(reader.values):
            await reader.fetch()


async def _commit(consumer: Consumer, reader: Reader) -> None:
    with anyio.fail_after(HANG_S):
        while True:
            try:
                await consumer.commit(reader.upto)
                if not await consumer.lag():
                    return
            except EventLogError:
                await reader.fetch()


async def _certify(folder: Path, ca_file: Path) -> str:
    """Return the properties of a broker with a certificate of a new authority, written to ``ca_file``."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(ca_file)
    return await to_thread.run_sync(tls_properties, folder, authority.issue_cert("127.0.0.1"), ca_file)
