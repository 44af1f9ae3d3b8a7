"""One ``borg up`` from start to end: Valkey, then logshipper, monitor and agents; their drain the other way round.

So whoever publishes events ends before the one who stores them, and Valkey, in which they wait for it, ends last.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import anyio

from borgcore.errors import BorgError
from borgcore.sections import RedisSettings
from borglocal.children import Child, start_child
from borglocal.crew import Crew
from borglocal.display import Display
from borglocal.plan import Plan
from borglocal.reporter import Reporter
from borglocal.session import EXIT_SERVER, Session
from borglocal.shipping import shipped
from borglocal.staff import HELPER_GRACE_S, Employ, Post, employ, staff_environment
from borglocal.valkey import Valkey, open_valkey


def run_up(plan: Plan, display: Display, staff: Employ = employ) -> Session:
    """Run until something ends it; every process that was started has ended then."""
    return anyio.run(supervise, plan, display, staff)


async def supervise(plan: Plan, display: Display, staff: Employ) -> Session:
    """Run one session; its ``ending`` says how it went."""
    session = Session(display)
    async with anyio.create_task_group() as listening:
        await listening.start(session.heed_signals)
        try:
            async with _open_server(session, plan) as (redis, server):
                await _serve(session, plan, redis, server, staff)
        except BorgError as error:
            session.fail(str(error), error.exit_code)
        listening.cancel_scope.cancel()
    return session


async def _serve(session: Session, plan: Plan, redis: RedisSettings, server: Valkey | None, staff: Employ) -> None:
    start = _starter(plan, redis)
    agents = Crew(session, start, server, vital=True)
    monitors, shippers = (Crew(session, start, server, vital=False) for _ in range(2))
    async with (
        shippers.employed(HELPER_GRACE_S) as begin_shippers,
        shipped(session, plan, redis, shippers),
        monitors.employed(HELPER_GRACE_S) as begin_monitors,
        agents.employed(plan.grace_s) as begin_agents,
    ):
        with session.intake:
            if server is not None and not await _becomes_ready(session, server):
                return
            hired = staff(plan, redis)
            begin_shippers(hired.shippers)
            begin_monitors(hired.monitors)
            begin_agents(hired.agents)
            async with anyio.create_task_group() as work:
                if server is not None:
                    work.start_soon(_watch_server, session, server)
                reporter = Reporter(session, plan)
                work.start_soon(reporter.watch, redis)
                work.start_soon(reporter.keep_time)


@asynccontextmanager
async def _open_server(session: Session, plan: Plan) -> AsyncIterator[tuple[RedisSettings, Valkey | None]]:
    external = plan.external_redis()
    if external is not None:
        yield external, None
        return
    session.display.show_phase("starting Valkey")
    async with open_valkey(plan.folder, plan.lock_file, session.display.say) as server:
        yield server.settings, server


async def _becomes_ready(session: Session, server: Valkey) -> bool:
    try:
        await server.wait_ready(session.display.show_phase)
    except BorgError as error:
        session.fail(str(error), error.exit_code)
        return False
    return True


def _starter(plan: Plan, redis: RedisSettings) -> Callable[[Post], Awaitable[Child]]:
    env = staff_environment(redis)

    def start(post: Post) -> Awaitable[Child]:
        return start_child(post.name, post.command, post.log, env=env, lock_file=plan.lock_file)

    return start


async def _watch_server(session: Session, server: Valkey) -> None:
    await server.child.process.wait()
    session.end(await server.describe_death(), EXIT_SERVER)
