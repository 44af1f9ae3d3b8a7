"""Sends requests that an older broker may not know."""

from typing import Any

from aiokafka.client import AIOKafkaClient, ConnectionGroup
from aiokafka.errors import IncompatibleBrokerVersion
from aiokafka.protocol.api import Request


async def ask_if_known(client: AIOKafkaClient, node: int, request: Request[Any]) -> Any | None:
    """Ask a broker on another connection than the one on which fetches wait; None if it does not know the request.

    Of a broker that knows only other versions of a request, aiokafka raises NotImplementedError (``Request.prepare``).

    Raises:
        KafkaError: the broker did not answer.
    """
    try:
        return await client.send(node, request, group=ConnectionGroup.COORDINATION)
    except (IncompatibleBrokerVersion, NotImplementedError):
        return None
