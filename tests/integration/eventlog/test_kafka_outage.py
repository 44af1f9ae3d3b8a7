"""A Kafka that is killed and comes back, and one that speaks nothing but TLS."""

import uuid
from collections import Counter
from pathlib import Path
from typing import Any

import anyio
import pytest
import trustme
from anyio import to_thread
from structlog.testing import capture_logs

from borgcore.errors import EventLogError
from borgcore.eventlog.kafka.check import check_kafka
from borgcore.eventlog.kafka.sender import open_kafka_sender
from borgcore.settings.sections import EventsSettings
from tests.limits import HANG_S, LONG_TEST_TIMEOUT_S

from .broker import run_broker, tls_properties
from .kafka_log import Reader, events, join, send_until_taken

pytestmark = pytest.mark.timeout(LONG_TEST_TIMEOUT_S)


async def test_a_killed_broker_costs_no_acknowledged_event_and_is_logged_once(private_kafka: Any) -> None:
    prefix = f"t{uuid.uuid4().hex[:12]}."
    settings = EventsSettings(url=f"kafka://{private_kafka.address}", prefix=prefix, timeout_s=2.0)
    acknowledged: list[bytes] = []
    with capture_logs() as logs:
        async with open_kafka_sender(settings) as sender, join(settings) as consumer:
            reader = Reader(consumer)
            acknowledged += await send_until_taken(sender, events(500, "before"))
            await reader.read(500)
            await consumer.commit(reader.upto)
            assert consumer.outage is None
            acknowledged += await send_until_taken(sender, events(500, "read in part"))
            await to_thread.run_sync(private_kafka.kill)
            for _ in range(2):
                with anyio.fail_after(HANG_S), pytest.raises(EventLogError, match=f"Kafka at {private_kafka.address} "):
                    await sender.send(events(1, "lost"))
            with anyio.fail_after(HANG_S):
                with pytest.raises(EventLogError):
                    await consumer.lag()
                with pytest.raises(EventLogError):
                    await consumer.send_dead_letters([b"letter"])
                while not any(entry["event"] == "event_log_lost" for entry in logs):
                    await reader.fetch()
                for _ in range(10):
                    await reader.fetch()
                assert consumer.outage is not None
                assert consumer.outage.startswith(f"Kafka at {private_kafka.address} cannot be reached: ")
            await to_thread.run_sync(private_kafka.start)
            acknowledged += await send_until_taken(sender, events(500, "after"))
            with anyio.fail_after(HANG_S):
                while set(acknowledged) - set(reader.values):
                    await reader.fetch()
                await consumer.send_dead_letters([b"letter"])
                await consumer.commit(reader.upto)
                assert await consumer.lag() == 0
            assert consumer.outage is None
    counts = Counter(entry["event"] for entry in logs)
    assert counts == {"event_log_lost": 1, "event_log_regained": 1}
    assert set(filter(None, reader.values)) - set(acknowledged) <= {events(1, "lost")[0].value}


async def test_a_broker_that_speaks_tls_is_trusted_by_its_authority_alone(
    scripted_kafka: Any, kafka_libs: Path, tmp_path: Path
) -> None:
    authority, stranger = trustme.CA(), trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    stranger.cert_pem.write_to_path(tmp_path / "stranger.pem")
    await to_thread.run_sync(scripted_kafka.stop)
    certificate = authority.issue_cert("127.0.0.1")
    properties = await to_thread.run_sync(tls_properties, scripted_kafka.folder, certificate, tmp_path / "ca.pem")
    settings = EventsSettings(
        url=f"kafka+ssl://{scripted_kafka.address}", ca_file=tmp_path / "ca.pem", prefix="test.", timeout_s=5.0
    )
    async with run_broker(scripted_kafka.folder, kafka_libs, properties, settings):
        assert (await check_kafka(settings, None)).startswith(f"Kafka at {scripted_kafka.address}, 1 broker, version ")
        async with open_kafka_sender(settings) as sender, join(settings) as consumer:
            await sender.send(events(3, keys=1))
            assert await Reader(consumer).read(3) == [event.value for event in events(3, keys=1)]
        with pytest.raises(EventLogError, match="CERTIFICATE_VERIFY_FAILED"):
            await check_kafka(settings.model_copy(update={"ca_file": tmp_path / "stranger.pem"}), None)
        with pytest.raises(EventLogError, match="cannot be reached over TLS: "):
            await check_kafka(settings.model_copy(update={"ca_file": None}), None)
