"""Poll every server concurrently, one round trip each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import anyio
import structlog
from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AskError, RedisError, ResponseError

from borgcore.connection.client import CLOSE_TIMEOUT_S
from borgcore.connection.login import connection_options
from borgcore.errors import CorruptDataError, SettingsError
from borgcore.run.keys import RunKeys
from borgcore.run.stats import STATS_REPLIES, ReplayStats, parse_stats, queue_stats
from borgcore.settings.addresses import read_address
from borgcore.settings.sections import RedisSettings
from borgmonitor.topology import Topology, newest

SECTIONS = ("server", "clients", "memory", "persistence", "stats", "commandstats", "latencystats")
MAX_LEASES = 64  # leases counted; agents claim the lowest free number
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class ReplayState:
    """The replay memory as seen on the server that holds the run's keys."""

    agents: int = 0
    """Agents alive."""
    stats: ReplayStats | None = None
    """None if there is no memory, or it cannot be read."""
    unreadable: str | None = None
    """Why it cannot be read."""


@dataclass(frozen=True, slots=True)
class Reply:
    """One server's reply."""

    info: Mapping[str, Any]
    replay: ReplayState | None
    """None if this server does not hold the run's keys."""
    at_s: float
    """Time of arrival on the event loop's clock."""


class Nodes:
    """The server in the settings or, if that belongs to a cluster, all primaries of the cluster."""

    def __init__(self, settings: RedisSettings, run: str) -> None:
        """Connects at the first poll."""
        self._settings = settings
        self._run = run
        self._keys = RunKeys(run)
        self._clients: dict[str, Redis] = {}
        self._clustered = False
        self._topology: Topology | None = None

    async def poll(self) -> dict[str, Reply | RedisError]:
        """Poll all servers; return replies by address, an error for a server that did not answer."""
        answers = await self._ask_all()
        if not any(isinstance(answer, Reply) for answer in answers.values()) and (self._clustered or not answers):
            try:
                await self._discover()
            except RedisError as error:
                return answers or {self._settings.address: error}
            return await self._ask_all()
        return answers

    async def close(self) -> None:
        """Close every connection."""
        with anyio.move_on_after(CLOSE_TIMEOUT_S, shield=True):
            for client in self._clients.values():
                await client.aclose(close_connection_pool=True)

    async def _discover(self) -> None:
        """Discover the servers from the address in the settings, at the start and when no known node answers."""
        address = self._settings.address
        look = self._client(address).pipeline(transaction=False)
        look.info("cluster")
        look.execute_command("CLUSTER NODES")
        found, nodes = await look.execute(raise_on_error=False)
        if isinstance(found, RedisError):
            raise found
        self._clustered = bool(found["cluster_enabled"])
        if not self._clustered:
            await self._adopt(Topology((address,), address))
        elif isinstance(nodes, RedisError):
            raise nodes
        else:
            await self._adopt(Topology.of(nodes, self._keys.meta, address))

    async def _ask_all(self) -> dict[str, Reply | RedisError]:
        if self._topology is None:
            return {}
        answers: dict[str, Reply | RedisError] = {}
        views: list[Topology] = []
        async with anyio.create_task_group() as group:
            for node in self._topology.nodes:
                group.start_soon(self._ask, node, node == self._topology.owner, answers, views)
        if (view := newest(views)) is not None:
            await self._adopt(view)
        return answers

    async def _ask(self, node: str, owns: bool, answers: dict[str, Reply | RedisError], views: list[Topology]) -> None:
        """Ask for INFO, in a cluster for the node's view of it, and on the owner for the memory, in one round trip."""
        client = self._client(node)
        look = client.pipeline(transaction=False)
        look.info(*SECTIONS)
        if owns:
            queue_stats(look, self._run)
            look.exists(*[self._keys.lease(number) for number in range(1, MAX_LEASES + 1)])
        if self._clustered:
            look.execute_command("CLUSTER NODES")
        try:
            info, *rest = await look.execute(raise_on_error=False)
        except RedisError as error:
            answers[node] = error
            return
        if isinstance(info, RedisError):
            answers[node] = info
            return
        replay = self._read(rest[: STATS_REPLIES + 1], info, client) if owns else None
        answers[node] = Reply(info, replay, anyio.current_time())
        if self._clustered and not isinstance(rest[-1], RedisError):
            views.append(Topology.of(rest[-1], self._keys.meta, node))

    def _read(self, replies: Sequence[Any], info: Mapping[str, Any], client: Redis) -> ReplayState:
        errors = [reply for reply in replies if isinstance(reply, ResponseError)]
        if errors:  # ASK: the slot is migrating, which is no fault; the next poll asks its new node
            return ReplayState(unreadable=None if isinstance(errors[0], AskError) else str(errors[0]))
        *stats, agents = replies
        try:
            return ReplayState(agents, parse_stats(stats, info, client, self._run))
        except CorruptDataError as error:
            return ReplayState(agents, unreadable=str(error))

    async def _adopt(self, view: Topology) -> None:
        """Poll the servers of this view from now on."""
        if self._clustered and (self._topology is None or view.nodes != self._topology.nodes):
            _log.info("topology_changed", nodes=view.nodes, owner=view.owner)
        self._topology = view
        for gone in self._clients.keys() - {*view.nodes, self._settings.address}:
            await self._clients.pop(gone).aclose(close_connection_pool=True)

    def _client(self, node: str) -> Redis:
        if node not in self._clients:
            self._clients[node] = _connect(self._settings, node)
        return self._clients[node]


def check_settings(settings: RedisSettings) -> None:
    """Check the settings before the first poll; reads a file.

    Raises:
        SettingsError: the URL is invalid, or the certificate file does not exist.
    """
    try:
        read_address(settings.url)
    except ValueError as error:
        raise SettingsError(f"redis url: {error}; nothing was started") from None
    if settings.ca_file is not None and not settings.ca_file.is_file():
        raise SettingsError(
            f"redis ca_file: {settings.ca_file} is no file; expected a PEM certificate authority; nothing was started"
        )


def _connect(settings: RedisSettings, node: str) -> Redis:
    """Make a client for one node with the user, password and TLS of the settings; it connects at its first call."""
    given, options = urlsplit(settings.url), dict[str, Any]()
    scheme = "rediss" if given.scheme == "rediss" else "redis"
    url = settings.url if node == settings.address else f"{scheme}://{_bracketed(node)}"
    if not url.startswith("unix:"):
        options |= {"socket_connect_timeout": settings.connect_timeout_s, "socket_keepalive": True}
    pool = ConnectionPool(
        socket_timeout=settings.timeout_s,
        retry=Retry(NoBackoff(), 0),  # the next poll is the next try
        driver_info=None,  # else a new connection looks up redis-py's own version on disk
        protocol=2,
        **options,
        **connection_options(settings, url),
    )
    return Redis(connection_pool=pool)


def _bracketed(node: str) -> str:
    host, _, port = node.rpartition(":")
    return f"[{host}]:{port}" if ":" in host else node
