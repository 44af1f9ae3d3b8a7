"""A real cluster: three Valkeys, joined by the test."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import anyio
import pytest
import structlog
from anyio import to_thread
from pydantic import SecretStr
from redis.asyncio import Redis
from redis.crc import key_slot

from borgcore.errors import ServerError
from borgcore.replay import open_replay
from borgcore.run.keys import RunKeys
from borgcore.run.leases import claim
from borgmonitor.service import Monitor
from tests.limits import HANG_S
from tests.valkey import ValkeyServer

from .conftest import MEMORY, SPEC, transitions
from .watch import LOOK_S, watching

SLOTS = 16_384
OPTIONS = {"cluster-enabled": "yes", "cluster-node-timeout": "15000", "appendonly": "no"}


@dataclass
class Cluster:
    """Servers and a client of each, in the order of their slots."""

    servers: list[ValkeyServer]
    clients: list[Redis]

    @property
    def addresses(self) -> list[str]:
        return [server.connection_url.removeprefix("redis://") for server in self.servers]

    def owner_of(self, run: str) -> int:
        return key_slot(RunKeys(run).meta.encode()) * len(self.servers) // SLOTS

    async def move(self, run: str, target: int) -> None:
        """Give the run's slot, which must be empty, to another node."""
        slot, node = key_slot(RunKeys(run).meta.encode()), await tell(self.clients[target], "MYID")
        for client in (self.clients[target], *self.clients):
            await tell(client, "SETSLOT", slot, "NODE", node)
        await tell(self.clients[target], "BUMPEPOCH")


async def tell(client: Any, *words: object) -> Any:
    """Send a CLUSTER command."""
    return await client.cluster(*words)


async def join(clients: list[Redis], ports: list[int]) -> None:
    """Share the slots out and wait until every node knows all."""
    count = len(clients)
    for number, client in enumerate(clients):
        first, last = -(-SLOTS * number // count), -(-SLOTS * (number + 1) // count) - 1
        await tell(client, "ADDSLOTSRANGE", first, last)
        await tell(client, "SET-CONFIG-EPOCH", number + 1)
    for port in ports[1:]:
        await tell(clients[0], "MEET", "127.0.0.1", port)
    await know(clients, count)


async def know(clients: list[Redis], count: int) -> None:
    """Wait until every node knows so many."""
    for client in clients:
        while True:
            info = await tell(client, "INFO")
            if info["cluster_state"] == "ok" and info["cluster_known_nodes"] == str(count):
                break
            await anyio.sleep(LOOK_S)


async def follows(replica: Redis) -> None:
    """Wait until a replica has its primary's data."""
    while True:
        if (await replica.info("replication")).get("master_link_status") == "up":
            break
        await anyio.sleep(LOOK_S)


@pytest.fixture
async def cluster(start_valkey: Callable[..., ValkeyServer]) -> AsyncIterator[Cluster]:
    servers = [await to_thread.run_sync(partial(start_valkey, **OPTIONS)) for _ in range(3)]
    clients = [Redis.from_url(server.connection_url, protocol=2) for server in servers]
    with anyio.fail_after(HANG_S):
        await join(clients, [server.port for server in servers])
    yield Cluster(servers, clients)
    for client in clients:
        await client.aclose()


async def test_every_primary_is_sampled_and_the_memory_where_the_run_lives(cluster: Cluster, run: str) -> None:
    owner = cluster.owner_of(run)
    with anyio.fail_after(HANG_S):
        async with (
            open_replay(cluster.clients[owner], run, SPEC, MEMORY) as replay,
            watching(cluster.servers[(owner + 1) % 3].connection_url, run) as watch,
        ):
            await replay.push(transitions(50))
            assert await claim(cluster.clients[owner], run, 1, 10 * HANG_S)
            await watch.poll()
            samples = {sample.node: sample for sample in await watch.poll()}
    assert sorted(samples) == sorted(cluster.addresses)
    assert {node: sample.replay_transitions for node, sample in samples.items()} == {
        address: 50 if number == owner else None for number, address in enumerate(cluster.addresses)
    }
    assert samples[cluster.addresses[owner]].replay_agents == 1
    assert all((sample.redis_memory_used_bytes or 0) > 0 for sample in samples.values())
    assert watch.warned == []
    assert watch.health.ready


async def test_a_period_takes_one_round_trip_to_each_node(cluster: Cluster, run: str) -> None:
    with anyio.fail_after(HANG_S):
        async with watching(cluster.servers[0].connection_url, run) as watch:
            await watch.poll()
            for client in cluster.clients:
                await client.config_resetstat()
            for _ in range(5):
                await watch.poll()
            infos = [await client.info("commandstats") for client in cluster.clients]
    assert [info["cmdstat_info"]["calls"] for info in infos] == [5, 5, 5]
    assert [info["cmdstat_cluster|nodes"]["calls"] for info in infos] == [5, 5, 5]
    assert sorted(info.get("cmdstat_exists", {}).get("calls", 0) for info in infos) == [0, 0, 5]


async def test_a_slot_that_moves_is_followed(cluster: Cluster, run: str) -> None:
    owner = cluster.owner_of(run)
    target = (owner + 1) % 3
    with anyio.fail_after(HANG_S):
        async with watching(cluster.servers[owner].connection_url, run) as watch:
            await watch.poll()
            await cluster.move(run, target)
            async with open_replay(cluster.clients[target], run, SPEC, MEMORY) as replay:
                await replay.push(transitions(20))
                while True:
                    samples = {sample.node: sample for sample in await watch.poll()}
                    if samples[cluster.addresses[target]].replay_transitions == 20:
                        break
                    await anyio.sleep(LOOK_S)
    assert samples[cluster.addresses[owner]].replay_transitions is None
    assert watch.warned == []


async def test_a_node_that_joins_is_watched_and_one_that_is_forgotten_is_not(
    cluster: Cluster, start_valkey: Callable[..., ValkeyServer], run: str
) -> None:
    fourth = await to_thread.run_sync(partial(start_valkey, **OPTIONS))
    with anyio.fail_after(HANG_S), structlog.testing.capture_logs() as logs:
        async with watching(cluster.servers[0].connection_url, run) as watch:
            assert len(await watch.poll()) == 3
            await tell(cluster.clients[0], "MEET", "127.0.0.1", fourth.port)
            await watch.until(lambda watch: len(samples_of(watch.monitor)) == 4)
            await know(cluster.clients, 4)
            async with Redis.from_url(fourth.connection_url, protocol=2) as client:
                node = await tell(client, "MYID")
            for other in cluster.clients:
                await tell(other, "FORGET", node)
            await to_thread.run_sync(fourth.stop)
            await watch.until(lambda watch: len(samples_of(watch.monitor)) == 3 and watch.health.ready)
    sizes = [len(log["nodes"]) for log in logs if log["event"] == "topology_changed"]
    assert sizes[0] == 3
    assert 4 in sizes
    assert sizes[-1] == 3


def samples_of(monitor: Monitor) -> list[str]:
    return list(monitor._samples)


async def test_one_lost_node_is_said_and_the_others_are_sampled_on(cluster: Cluster, run: str) -> None:
    lost = cluster.owner_of(run)
    with anyio.fail_after(HANG_S):
        async with watching(cluster.servers[lost].connection_url, run) as watch:
            await watch.poll()
            address, *others = [cluster.addresses[lost], *cluster.addresses[:lost], *cluster.addresses[lost + 1 :]]
            await to_thread.run_sync(cluster.servers[lost].stop)
            await watch.poll()
            samples = await watch.poll()
    assert sorted(sample.node for sample in samples) == sorted(others)
    assert [(warning.node, warning.kind, warning.state) for warning in watch.warnings()] == [
        (address, "server_lost", "onset")
    ]
    assert not watch.health.ready


async def test_a_failover_is_followed_also_where_the_replica_was_the_address_given(
    cluster: Cluster, start_valkey: Callable[..., ValkeyServer], run: str
) -> None:
    owner = cluster.owner_of(run)
    replica = await to_thread.run_sync(partial(start_valkey, **OPTIONS))
    primary = cluster.clients[owner]
    with anyio.fail_after(HANG_S):
        async with (
            open_replay(primary, run, SPEC, MEMORY) as replay,
            Redis.from_url(replica.connection_url, protocol=2) as client,
            watching(replica.connection_url, run) as watch,
        ):
            await replay.push(transitions(20))
            await tell(client, "MEET", "127.0.0.1", cluster.servers[owner].port)
            await know([*cluster.clients, client], 4)
            await tell(client, "REPLICATE", await tell(primary, "MYID"))
            await follows(client)
            await watch.until(lambda watch: sorted(samples_of(watch.monitor)) == sorted(cluster.addresses))
            await tell(client, "FAILOVER")
            address = replica.connection_url.removeprefix("redis://")
            await watch.until(lambda watch: address in samples_of(watch.monitor))
            await watch.until(lambda watch: len(samples_of(watch.monitor)) == 3)
            samples = {sample.node: sample for sample in await watch.poll()}
    assert samples[address].replay_transitions == 20
    assert cluster.addresses[owner] not in samples


async def test_a_password_opens_every_node(cluster: Cluster, run: str) -> None:
    with anyio.fail_after(HANG_S):
        for client in cluster.clients:
            await client.config_set("requirepass", "s3cret")
        async with watching(cluster.servers[0].connection_url, run, redis_password=SecretStr("s3cret")) as watch:
            assert len(await watch.poll()) == 3
        async with watching(cluster.servers[0].connection_url, run) as watch:
            with pytest.raises(ServerError, match="asks for a password"):
                await watch.poll()
