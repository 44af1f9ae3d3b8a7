"""The simplest possible Python shipper from Kafka to ``_bulk``: the baseline of bench.shipper.

    python -m bench.shared.bareloop KAFKA TOPIC GROUP URL INDEX

Repeat: read up to 2,000 records, parse each, send them in one request under their ids, commit. It has no limits, no
dead letters and no concurrency, and resends refused documents forever: do not use it as a shipper.
"""

import asyncio
import signal
import sys

import aiohttp
import orjson
from aiokafka import AIOKafkaConsumer

RECORDS = 2_000
RETRY_S = 0.1  # before the whole request is sent again
DONE = {201, 409}


async def post(session: aiohttp.ClientSession, url: str, body: bytes) -> bool:
    """Send one request; return whether the store has every document."""
    async with session.post(url, data=body) as response:
        answer = orjson.loads(await response.read())
    if not response.ok:
        return False
    return not answer["errors"] or all(item["create"]["status"] in DONE for item in answer["items"])


async def ship(kafka: str, topic: str, group: str, url: str, index: str) -> None:
    """Ship until cancelled."""
    head = b'{"create":{"_index":"%s","_id":"' % index.encode()
    consumer = AIOKafkaConsumer(
        topic, bootstrap_servers=kafka, group_id=group, enable_auto_commit=False, auto_offset_reset="earliest"
    )
    await consumer.start()
    try:
        async with aiohttp.ClientSession(headers={"Content-Type": "application/x-ndjson"}) as session:
            while True:
                found = await consumer.getmany(timeout_ms=1_000, max_records=RECORDS)
                parts: list[bytes] = []
                for records in found.values():
                    for record in records:
                        value = record.value
                        parts += head, orjson.loads(value)["event_id"].encode(), b'"}}\n', value, b"\n"
                if parts:
                    while not await post(session, f"{url}/_bulk", b"".join(parts)):  # noqa: ASYNC110  # a server sets no event
                        await asyncio.sleep(RETRY_S)
                    await consumer.commit()
    finally:
        await consumer.stop()


async def main() -> None:
    """Ship until SIGTERM."""
    task = asyncio.ensure_future(ship(*sys.argv[1:6]))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    await asyncio.wait([task])
    if not task.cancelled():
        task.result()


if __name__ == "__main__":
    asyncio.run(main())
