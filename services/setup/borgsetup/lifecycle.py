"""How long Elasticsearch keeps events: by a policy of its index lifecycle management, which deletes whole indices.

An index holds one month of a topic, and its age counts from its creation. So it is deleted 31 days later than its first
event would have to be: none goes early.
"""

from borgcore.events.topics import TOPICS
from borgsetup.server import RequestRefusedError, Server

POLICY = "borg-events"
_LONGEST_MONTH_DAYS = 31
_NO_POLICY = (400, 404)  # 400: this Elasticsearch has no lifecycle management
_INDICES = ",".join(f"{topic}-*" for topic in TOPICS)


async def keep_events(server: Server, days: int | None) -> None:
    """Let Elasticsearch delete indices whose events are all older than ``days``; None keeps all.

    Indices of later months have the policy from their template, see :func:`.index_template`.

    Raises:
        ServerError: Elasticsearch does not come up, or refuses it.
    """
    if days is None:
        await _keep_all(server)
        return
    delete = {"min_age": f"{days + _LONGEST_MONTH_DAYS}d", "actions": {"delete": {}}}
    await server.ask("PUT", f"/_ilm/policy/{POLICY}", {"policy": {"phases": {"delete": delete}}})
    await server.ask("PUT", f"/{_INDICES}/_settings", {"index": {"lifecycle": {"name": POLICY}}})


async def _keep_all(server: Server) -> None:
    """Remove the policy of an earlier start, if there is one."""
    try:
        await server.ask("GET", f"/_ilm/policy/{POLICY}")
    except RequestRefusedError as error:
        if error.status not in _NO_POLICY:
            raise
        return
    await server.ask("POST", f"/{_INDICES}/_ilm/remove")
    await server.ask("DELETE", f"/_ilm/policy/{POLICY}")
