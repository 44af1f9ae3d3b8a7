import anyio
import pytest
from redis.asyncio import Redis

from borgcore.errors import MismatchError
from borgcore.run import leases
from borgcore.run.keys import RunKeys
from borgcore.run.leases import claim, claim_lowest, count_holders

from .process import within

TTL_S = 1_000.0  # longer than any test: what expires here is made to
RUN = "t"


async def expire(redis: Redis, number: int) -> None:
    assert await redis.delete(RunKeys(RUN).lease(number)) == 1


async def test_each_agent_gets_the_lowest_free_number(redis: Redis) -> None:
    held = [await claim_lowest(redis, RUN, TTL_S) for _ in range(3)]
    assert [lease.number for lease in held] == [1, 2, 3]
    await held[1].release()
    assert (await claim_lowest(redis, RUN, TTL_S)).number == 2


async def test_agents_that_start_together_get_different_numbers(redis: Redis) -> None:
    numbers: list[int] = []

    async def start() -> None:
        numbers.append((await claim_lowest(redis, RUN, TTL_S)).number)

    async with anyio.create_task_group() as group:
        for _ in range(10):
            group.start_soon(start)
    assert sorted(numbers) == list(range(1, 11))


async def test_a_number_is_held_by_one_alone(redis: Redis) -> None:
    assert await claim(redis, RUN, 1, TTL_S) is not None
    assert await claim(redis, RUN, 1, TTL_S) is None
    assert await claim(redis, "another-run", 1, TTL_S) is not None


async def test_an_actor_may_ask_for_numbers_from_the_second_on(redis: Redis) -> None:
    assert (await claim_lowest(redis, RUN, TTL_S, first=2)).number == 2


async def test_a_lease_that_is_not_renewed_expires(redis: Redis) -> None:
    lease = await claim_lowest(redis, RUN, 0.05)
    successor = await within(lambda: claim(redis, RUN, 1, TTL_S))
    assert successor.number == lease.number
    assert not await lease.renew()


async def test_renewing_holds_on_for_another_lifetime(redis: Redis) -> None:
    lease = await claim_lowest(redis, RUN, TTL_S)
    await redis.pexpire(RunKeys(RUN).lease(1), 1000)
    assert await lease.renew()
    assert await redis.pttl(RunKeys(RUN).lease(1)) > 1_000


async def test_a_lost_lease_cannot_be_renewed_and_its_release_leaves_the_successor_alone(redis: Redis) -> None:
    lost = await claim_lowest(redis, RUN, TTL_S)
    await expire(redis, 1)
    successor = await claim_lowest(redis, RUN, TTL_S)
    assert not await lost.renew()
    await lost.release()
    assert await successor.renew()


async def test_a_released_number_is_free_at_once(redis: Redis) -> None:
    lease = await claim_lowest(redis, RUN, TTL_S)
    await lease.release()
    assert await claim(redis, RUN, 1, TTL_S) is not None


async def test_a_full_run_refuses_one_more(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "MAX_AGENTS", 2)
    await claim_lowest(redis, RUN, TTL_S)
    await claim_lowest(redis, RUN, TTL_S)
    with pytest.raises(MismatchError, match=r"^run t has 2 agents already, the most one run takes; this one ends$"):
        await claim_lowest(redis, RUN, TTL_S)


async def test_the_holders_alive_are_counted(redis: Redis) -> None:
    held = [await claim_lowest(redis, RUN, TTL_S) for _ in range(3)]
    assert await count_holders(redis, RUN, known=1) == 3
    await held[0].release()
    assert await count_holders(redis, RUN, known=3) == 2


async def test_a_full_server_grants_numbers_too(redis: Redis) -> None:
    await redis.config_set("maxmemory", "1")
    lease = await claim_lowest(redis, RUN, TTL_S)
    assert (await claim_lowest(redis, RUN, TTL_S)).number == 2
    assert await lease.renew()
    await lease.release()
    assert await count_holders(redis, RUN, 2) == 1
