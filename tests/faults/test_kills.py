"""A shipper that is killed between index and commit, again and again."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from anyio import to_thread

from borgcore.settings.sections import EventsSettings

from .gateway import Answer, Forward, Gateway
from .shipping import (
    KILLS,
    RECORDS,
    TEST_LIMIT_S,
    Elastic,
    Shipper,
    Sqlite,
    expect,
    make_events,
    send,
    unique,
    until,
)

pytestmark = pytest.mark.timeout(TEST_LIMIT_S)


async def test_kills_between_index_and_commit_lose_and_double_nothing_on_kafka_and_elasticsearch(
    kafka: EventsSettings, elastic: Elastic, gateway: Gateway, make_shipper: Callable[..., Shipper]
) -> None:
    events = make_events(RECORDS, "kills")
    await send(kafka, "kills", events.values())
    size = RECORDS // (10 * KILLS)  # enough batches for all lives
    shipper = make_shipper(
        kafka,
        elastic,
        gateway.url,
        BORG_LOGSHIPPER_BATCH__RECORDS=str(size),
        BORG_LOGSHIPPER_COMMIT_PERIOD_S="0.05",
    )
    kills, draw = 0, random.Random(1)
    left = draw.randint(1, 6)  # batches until the next kill

    async def kill_after_index(body: bytes, forward: Forward) -> Answer | None:
        nonlocal kills, left
        sender = shipper.process
        answer = await forward(body)
        if sender is not shipper.process or not shipper.lives():
            return None  # a batch beside the last one
        left -= 1
        if left <= 0 and kills < KILLS:
            kills += 1
            left = draw.randint(2, 6)
            shipper.kill()
            return None
        return answer

    gateway.fault = kill_after_index
    while kills < KILLS:
        shipper.start()
        await _end_of(shipper)
    shipper.start()
    await expect(elastic, events, shipper)
    assert kills == KILLS


async def test_kills_while_writing_lose_and_double_nothing_on_streams_and_sqlite(
    valkey_url: str, tmp_path: Path, make_shipper: Callable[..., Shipper]
) -> None:
    log, run, store = EventsSettings(url=valkey_url), unique() + "kills", Sqlite(tmp_path / "events.sqlite")
    events = make_events(RECORDS, run)
    await send(log, run, events.values())
    own = {
        "BORG_RUN": run,
        "BORG_LOGSHIPPER_BATCH__RECORDS": str(RECORDS // (10 * KILLS)),
        "BORG_LOGSHIPPER_COMMIT_PERIOD_S": "0.05",
    }
    shipper = make_shipper(log, store.path, **own)
    for kill in range(KILLS):
        before = await store.count()
        shipper.start()
        wanted = min(before + RECORDS // (2 * KILLS), RECORDS - 1)

        async def grown(wanted: int = wanted) -> bool:
            return await store.count() > wanted

        await until(grown, f"more documents before kill {kill}", shipper.log)
        await to_thread.run_sync(shipper.kill)
    shipper.start()
    await shipper.wait_ready()
    await expect(store, events, shipper)


async def _end_of(shipper: Shipper) -> None:
    async def ended() -> bool:
        return shipper.process is not None and shipper.process.poll() is not None

    await until(ended, "it is killed", shipper.log)
