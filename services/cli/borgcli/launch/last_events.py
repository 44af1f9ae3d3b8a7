"""Wait at the end of a run until the last events of agents and monitor are in the store."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
from anyio import CancelScope
from redis.exceptions import RedisError

from borgcli.launch.group import ChildGroup
from borgcli.launch.plan import Plan
from borgcli.launch.session import Session
from borgcli.launch.specs import SHIPPER_GROUP
from borgcore.connection.client import open_redis
from borgcore.errors import BorgError
from borgcore.eventlog.streams.server import backlog
from borgcore.settings.sections import RedisSettings

SHIPPING_S = 10.0  # longest wait for the last events
_SILENT_S = 2.0  # shorter waits are not shown
_LOOK_S = 0.1


@asynccontextmanager
async def shipped(session: Session, plan: Plan, settings: RedisSettings, shippers: ChildGroup) -> AsyncIterator[None]:
    """After the block, wait until all published events are stored; report those that are not."""
    try:
        yield
    finally:
        if shippers.began and not session.server_failed:
            with CancelScope(shield=True):
                await _wait(session, plan, settings, shippers)


async def _wait(session: Session, plan: Plan, settings: RedisSettings, shippers: ChildGroup) -> None:
    left: int | None = None
    reason = "Redis has not answered"
    began_s = anyio.current_time()
    try:
        with session.patience(SHIPPING_S):
            async with open_redis(settings) as redis:
                while left := await backlog(redis, plan.folder.run, group=SHIPPER_GROUP):
                    if not shippers.works:
                        break
                    if anyio.current_time() - began_s > _SILENT_S:
                        session.display.show_phase(f"storing the last events: {left:,} to go (Ctrl-C cuts it off)")
                    await anyio.sleep(_LOOK_S)
    except (BorgError, RedisError, OSError) as error:
        reason = str(error)
    if left == 0:
        return
    stays = "in the run's log, and --resume stores"
    if left is not None:
        count = "1 event" if left == 1 else f"{left:,} events"
        text = f"{count} did not get into {plan.folder.events}; they stay {stays} them"
    else:
        text = f"it is unknown whether all events got into {plan.folder.events}: {reason}; the rest stays {stays} it"
    if session.impatient:
        session.cut_off(f"cut off: {text}")
    else:
        session.remark(text)
