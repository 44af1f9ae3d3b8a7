import numpy as np
import pytest
from redis.asyncio import Redis

from borgcore.errors import CorruptDataError
from borgcore.run.keys import RunKeys
from borgcore.run.weights import Weights, decode_weights, encode_weights, fetch_weights, publish_weights

KEY = RunKeys("t").weights()
LIMIT = 1 << 20


async def commands(redis: Redis, name: str) -> int:
    return int((await redis.info("commandstats")).get(f"cmdstat_{name}", {"calls": 0})["calls"])


async def test_published_weights_are_fetched_with_their_version(redis: Redis) -> None:
    arrays = {"bias": np.arange(3, dtype=np.float32)}
    await publish_weights(redis, KEY, Weights(7, encode_weights(arrays)))
    found = await fetch_weights(redis, KEY, 0, LIMIT)
    assert found is not None
    assert found.version == 7
    assert np.array_equal(decode_weights(found.data, {"bias": (3,)})["bias"], arrays["bias"])


async def test_before_the_first_publication_there_are_none(redis: Redis) -> None:
    assert await fetch_weights(redis, KEY, 0, LIMIT) is None


@pytest.mark.parametrize(("newer_than", "fetched"), [(6, True), (7, False), (8, False)])
async def test_only_newer_weights_are_fetched(redis: Redis, newer_than: int, fetched: bool) -> None:
    await publish_weights(redis, KEY, Weights(7, b"data"))
    assert (await fetch_weights(redis, KEY, newer_than, LIMIT) is not None) == fetched
    assert await commands(redis, "hmget") == int(fetched)


async def test_oversized_weights_are_refused_before_they_are_fetched(redis: Redis) -> None:
    await publish_weights(redis, KEY, Weights(1, b"x" * 1001))
    text = r"holds version b'1' with 1,001 bytes, expected a number and at most 1,000; the weights are not used$"
    with pytest.raises(CorruptDataError, match=text):
        await fetch_weights(redis, KEY, 0, 1000)
    assert await commands(redis, "hmget") == 0


@pytest.mark.parametrize("version", ["", "-1", "1.5", "seven", "9" * 5000])
async def test_what_is_no_version_is_refused(redis: Redis, version: str) -> None:
    await redis.hset(KEY, mapping={"version": version, "data": b"x"})
    with pytest.raises(CorruptDataError, match="expected a number"):
        await fetch_weights(redis, KEY, 0, LIMIT)


async def test_a_version_without_data_is_none(redis: Redis) -> None:
    await redis.hset(KEY, "version", "3")
    assert await fetch_weights(redis, KEY, 0, LIMIT) is None
