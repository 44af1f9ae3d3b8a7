"""The servers of a cluster, parsed from CLUSTER NODES."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from redis.crc import key_slot


@dataclass(frozen=True, slots=True)
class Topology:
    """The servers to poll: a single server, or every primary of a cluster as one of its nodes sees it."""

    nodes: tuple[str, ...]
    """host:port of each, sorted."""
    owner: str | None
    """The server that holds the given key, if any."""
    epoch: int = 0
    """The highest configuration epoch known to the node; a failover or a moved slot raises it."""

    @classmethod
    def of(cls, reply: Mapping[str, Mapping[str, Any]], key: str, asked: str) -> Self:
        """Parse redis-py's CLUSTER NODES; a node without a host of its own gets the host of ``asked``."""
        slot, primaries, owner = key_slot(key.encode()), [], None
        for address, node in reply.items():
            flags = node["flags"].split(",")
            failed = "fail" in flags and not node["slots"]  # its replica has taken over
            if "master" not in flags or "noaddr" in flags or "handshake" in flags or failed:
                continue
            host, _, port = address.rpartition(":")
            name = f"{node['hostname'] or host or asked.rpartition(':')[0]}:{port}"
            primaries.append(name)
            if any(int(piece[0]) <= slot <= int(piece[-1]) for piece in node["slots"]):
                owner = name
        epoch = max((int(node["epoch"]) for node in reply.values()), default=0)
        return cls(tuple(sorted(primaries)), owner, epoch)


def newest(views: Iterable[Topology]) -> Topology | None:
    """Return the view with the highest epoch, or None without views."""
    return max(views, key=lambda view: view.epoch, default=None)
