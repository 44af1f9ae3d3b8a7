"""A Kafka broker with properties that the script of the test servers does not know."""

import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import trustme
from aiokafka.errors import KafkaError
from anyio import CancelScope, to_thread
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from borgcore.eventlog.kafka.client import find_server
from borgcore.settings.sections import EventsSettings
from tests.limits import HANG_S


@asynccontextmanager
async def run_broker(folder: Path, libs: Path, properties: str, settings: EventsSettings) -> AsyncIterator[None]:
    """Run a broker on the data of one that the script has started and stopped, until it answers ``settings``."""
    broker = await to_thread.run_sync(_start, folder, libs, properties)
    try:
        with anyio.fail_after(HANG_S):
            while True:
                try:
                    await find_server(settings)
                    break
                except (KafkaError, OSError, EOFError):
                    await anyio.sleep(0.2)
        yield
    finally:
        broker.kill()
        with CancelScope(shield=True):
            await to_thread.run_sync(broker.wait, HANG_S)


def _start(folder: Path, libs: Path, properties: str) -> "subprocess.Popen[bytes]":
    (folder / "own.properties").write_text(properties)
    command = ["java", "-Xmx256m", "-XX:+UseSerialGC", "-cp", f"{libs}/*", "kafka.Kafka"]
    with (folder / "own.log").open("wb") as log:
        return subprocess.Popen([*command, str(folder / "own.properties")], stdout=log, stderr=log)


def tls_properties(folder: Path, certificate: trustme.LeafCert, authority: Path) -> str:
    """Return the properties of the script's broker for listeners that speak TLS; blocks."""
    key = load_pem_private_key(certificate.private_key_pem.bytes(), None)
    store = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    store += b"".join(part.bytes() for part in certificate.cert_chain_pems)
    (folder / "store.pem").write_bytes(store)
    properties = (folder / "server.properties").read_text().replace("PLAINTEXT:PLAINTEXT", "PLAINTEXT:SSL", 1)
    properties += f"ssl.keystore.type=PEM\nssl.keystore.location={folder / 'store.pem'}\n"
    return properties + f"ssl.truststore.type=PEM\nssl.truststore.location={authority}\n"  # it speaks to itself, too
