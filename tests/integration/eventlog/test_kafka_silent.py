"""Bootstrap servers that accept connections and answer nothing, or stop answering, beside one that works."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import anyio
import pytest
from anyio import BrokenResourceError, ClosedResourceError, EndOfStream
from anyio.abc import SocketStream, TaskStatus

from borgcore.errors import EventLogError
from borgcore.eventlog.kafka.check import check_kafka
from borgcore.eventlog.kafka.sender import open_kafka_sender
from borgcore.settings.sections import EventsSettings
from tests.limits import HANG_S
from tests.ports import free_port

from .kafka_log import Reader, events, join

ENDED = (BrokenResourceError, ClosedResourceError, EndOfStream)


@asynccontextmanager
async def fall_silent(address: str, after: int) -> AsyncIterator[str]:
    """Forward ``after`` requests of each connection and their replies, then accept and answer nothing."""
    host, _, port = address.rpartition(":")

    async def serve(client: SocketStream) -> None:
        async with client, await anyio.connect_tcp(host, int(port)) as broker:
            try:
                for _ in range(after):
                    await broker.send(await client.receive())
                    await client.send(await broker.receive())
                while True:
                    await client.receive()
            except ENDED:
                return

    async def listen(*, task_status: TaskStatus[None]) -> None:
        async with await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=own_port) as listener:
            task_status.started()
            await listener.serve(serve)

    own_port = free_port()
    async with anyio.create_task_group() as group:
        await group.start(listen)
        yield f"127.0.0.1:{own_port}"
        group.cancel_scope.cancel()


@pytest.mark.parametrize("after", [0, 1], ids=["never answers", "answers once"])
@pytest.mark.parametrize("silent", [1, 2])
async def test_silent_bootstrap_servers_hold_nobody_up(kafka: EventsSettings, silent: int, after: int) -> None:
    address = kafka.url.removeprefix("kafka://")
    async with AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(fall_silent(address, after)) for _ in range(silent)]
        slow = kafka.model_copy(update={"url": f"kafka://{','.join([*servers, address])}", "timeout_s": HANG_S})
        with anyio.fail_after(HANG_S / 2):  # less than the wait for one silent server
            assert ", 1 broker, " in await check_kafka(slow, "group")
            async with open_kafka_sender(slow) as sender, join(slow) as consumer:
                await sender.send(events(3, keys=1))
                await consumer.send_dead_letters([b"letter"])
                assert await Reader(consumer).read(3) == [event.value for event in events(3, keys=1)]


async def test_servers_that_are_all_silent_are_reported_after_one_wait(kafka: EventsSettings) -> None:
    address = kafka.url.removeprefix("kafka://")
    async with fall_silent(address, 0) as one, fall_silent(address, 1) as two:
        settings = EventsSettings(url=f"kafka://{one},{two}", timeout_s=0.5)
        with anyio.fail_after(HANG_S), pytest.raises(EventLogError) as caught:
            await check_kafka(settings, None)
    assert str(caught.value) == f"Kafka at {one},{two} gave no answer in time"
