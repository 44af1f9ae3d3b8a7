import asyncio
from typing import Any

import anyio
import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaConnectionError

from borgcore.eventlog.kafka.closing import close_producer
from tests.limits import HANG_S

HERE = TopicPartition("training_log", 0)


@pytest.mark.parametrize("under_way", ["waiting", "sent", "to be sent again"])
async def test_a_producer_that_is_given_up_fails_what_it_holds_and_complains_of_nothing(under_way: str) -> None:
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, complaint: complaints.append(complaint))
    producer = AIOKafkaProducer(bootstrap_servers="127.0.0.1:9")
    accumulator = producer._message_accumulator
    with anyio.fail_after(HANG_S):
        sent = await accumulator.add_message(HERE, b"key", b"value", 1.0)
        if under_way != "waiting":
            batch = accumulator._pop_batch(HERE)
            if under_way == "to be sent again":
                accumulator.reenqueue(batch)
        await close_producer(producer)
        with pytest.raises(KafkaConnectionError, match="given up"):
            await sent
    assert complaints == []
