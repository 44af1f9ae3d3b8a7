"""A Kafka broker with properties that the script of the test servers does not know."""

import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
from aiokafka.errors import KafkaError
from anyio import CancelScope, to_thread

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
