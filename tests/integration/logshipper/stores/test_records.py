"""Records as both stores keep them: the same id, the same instant, and the same fate of a second one with that id."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import anyio
import orjson
import pytest
from anyio import to_thread

from borgcore.eventlog.protocol import Chunk, Partition
from borgcore.eventstore.reader import EventFilter
from borgcore.eventstore.sqlite import open_sqlite_reader
from borgcore.service.health import Health
from borglogshipper.pipeline.delivery import Delivery
from borglogshipper.pipeline.progress import ShippingProgress, Troubles
from borglogshipper.pipeline.record import RecordBatch, RecordReader
from borglogshipper.settings import RetrySettings
from borglogshipper.stores.store import Store
from tests.limits import HANG_S

from .conftest import Server

ID = "0193a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b"
NOON = datetime(2026, 11, 28, 12, tzinfo=UTC)
TIME_MS = 1_795_341_600_000
OTHER_TOPIC, OTHER_MONTH = "memory_monitoring", "2026-12-01T00:00:00Z"


def spellings() -> dict[str, datetime]:
    """Every kind of time that is accepted, with its instant cut off at the millisecond."""
    clocks = {"": 0, ".5": 500, ".12": 120, ".123": 123, ".1239": 123, ".123456": 123, ".9995": 999}
    clocks |= {".99951": 999, ".999999": 999, ".123456789": 123, ".999999999": 999, ".000": 0, ".0009": 0}
    zones = {"Z": 0, "+00:00": 0, "-00:00": 0, "+01:00": 60, "+05:45": 345, "-03:30": -210, "+14:00": 840}
    zones |= {"-12:00": -720, "+14:59": 899, "-14:59": -899}
    found = {}
    for clock, ms in clocks.items():
        for zone, minutes in zones.items():
            at = NOON - timedelta(minutes=minutes) + timedelta(milliseconds=ms)
            found[f"2026-11-28T12:00:00{clock}{zone}"] = at
    for stamp in ("2000-01-01T00:00:00.000Z", "2024-02-29T23:59:59.999Z", "2099-12-31T23:59:59.999Z"):
        found[stamp] = datetime.fromisoformat(stamp)
    found["2027-01-01T00:30:00.5+01:00"] = datetime(2026, 12, 31, 23, 30, 0, 500_000, tzinfo=UTC)
    return found


def batch_of(*values: bytes, topic: str = "training_log") -> RecordBatch:
    batch = RecordBatch()
    positions: list[int | str] = [*range(len(values))]
    chunk = Chunk(Partition(topic, 0), positions, [TIME_MS] * len(values), list(values))
    RecordReader(100_000, 20).read(chunk, batch)
    return batch


class Letters:
    """Takes dead letters; nothing else of a log is needed."""

    def __init__(self) -> None:
        self.taken: list[dict[str, object]] = []

    async def send_dead_letters(self, dead_letters: Sequence[bytes]) -> None:
        self.taken += map(orjson.loads, dead_letters)


@pytest.fixture
def letters() -> Letters:
    return Letters()


@pytest.fixture
def progress() -> ShippingProgress:
    return ShippingProgress()


@pytest.fixture
async def delivery(store: Store, letters: Letters, progress: ShippingProgress) -> Delivery:
    delivery = Delivery(store, letters, RetrySettings(), progress, Troubles(Health()), outage_s=1.0)
    await delivery.prepare()
    return delivery


async def test_elasticsearch_finds_every_accepted_time_at_its_instant(elastic: Store, server: Server) -> None:
    times = spellings()
    batch = batch_of(*(orjson.dumps({"@timestamp": stamp}) for stamp in times))
    assert batch.refused == []
    with anyio.fail_after(HANG_S):
        await elastic.prepare()
        assert await elastic.write(batch.documents) == {}
        await server.ask("POST", f"/{server.prefix}*/_refresh")
        query = {"size": len(times), "fields": [{"field": "@timestamp", "format": "epoch_millis"}]}
        hits = (await server.ask("POST", f"/{server.prefix}*/_search", query))["hits"]["hits"]
    found = {hit["_source"]["@timestamp"]: (int(hit["fields"]["@timestamp"][0]), hit["_index"]) for hit in hits}
    assert found == {
        stamp: (round(at.timestamp() * 1000), f"{server.prefix}training_log-{at:%Y.%m}") for stamp, at in times.items()
    }


async def test_sqlite_finds_every_accepted_time_at_its_instant(sqlite: Store, tmp_path: Path) -> None:
    times = spellings()
    batch = batch_of(*(orjson.dumps({"@timestamp": stamp}) for stamp in times))
    with anyio.fail_after(HANG_S):
        await sqlite.prepare()
        assert await sqlite.write(batch.documents) == {}
    for at in sorted(set(times.values())):
        for since in (at, at + timedelta(milliseconds=1)):
            found = await to_thread.run_sync(read_since, tmp_path / "events.sqlite", since)
            assert found == {stamp for stamp, instant in times.items() if instant >= since}


def read_since(path: Path, since: datetime) -> set[str]:
    with open_sqlite_reader(path, EventFilter(since=since)) as reader:
        assert reader is not None
        return {orjson.loads(document)["@timestamp"] for document in reader.read()}


async def test_a_repeated_record_is_silent_and_another_with_its_id_is_a_dead_letter(
    delivery: Delivery, store: Store, letters: Letters, progress: ShippingProgress
) -> None:
    first = orjson.dumps({"@timestamp": "2026-11-28T12:00:00Z", "event_id": ID, "loss": 0.5, "new": [1, {"a": 1e-7}]})
    upper = first.replace(ID.encode(), ID.upper().encode())
    other = first.replace(b"0.5", b"0.75")
    with anyio.fail_after(HANG_S):
        for value in (first, first, upper, other, first):
            await delivery.deliver(batch_of(value))
        await delivery.deliver(batch_of(upper, other, first))
        assert await store.read(["training_log-2026.11"], [ID]) == [first]
    assert (progress.shipped, progress.repeated, progress.dead_letters) == (6, 5, 2)
    assert [letter["value"] for letter in letters.taken] == [other.decode()] * 2
    assert {letter["reason"] for letter in letters.taken} == {
        f"training_log-2026.11 has another document with its event_id {ID}"
    }


async def test_an_id_is_taken_in_its_topic_and_month_alone(
    delivery: Delivery, store: Store, letters: Letters, progress: ShippingProgress
) -> None:
    here = orjson.dumps({"@timestamp": "2026-11-28T12:00:00Z", "event_id": ID})
    later = orjson.dumps({"@timestamp": OTHER_MONTH, "event_id": ID})
    with anyio.fail_after(HANG_S):
        for _ in range(2):
            await delivery.deliver(batch_of(here, later))
            await delivery.deliver(batch_of(here, topic=OTHER_TOPIC))
        indices = ["training_log-2026.11", "training_log-2026.12", f"{OTHER_TOPIC}-2026.11"]
        assert await store.read(indices, [ID] * 3) == [here, later, here]
    assert (progress.shipped, progress.repeated, letters.taken) == (6, 3, [])
