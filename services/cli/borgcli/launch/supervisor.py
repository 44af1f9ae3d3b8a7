"""One ``borg up``: start Valkey, logshipper, monitor and agents, and drain them in reverse order.

Publishers of events thus end before the logshipper that stores them, and Valkey, which queues the events, ends last.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import anyio

from borgcli.exit_codes import EXIT_SERVER
from borgcli.launch.child import Child, start_child
from borgcli.launch.group import ChildGroup
from borgcli.launch.last_events import shipped
from borgcli.launch.plan import Plan
from borgcli.launch.session import Session
from borgcli.launch.specs import HELPER_GRACE_S, ChildSpec, MakeSpecs, child_environment, child_specs
from borgcli.launch.valkey import Valkey, open_valkey
from borgcli.launch.watcher import RunWatcher
from borgcli.screen.display import Display
from borgcore.errors import BorgError, ServerError
from borgcore.settings.sections import RedisSettings


def run_up(plan: Plan, display: Display, make_specs: MakeSpecs = child_specs) -> Session:
    """Run until something ends the session; every started process has ended on return."""
    return anyio.run(supervise, plan, display, make_specs)


async def supervise(plan: Plan, display: Display, make_specs: MakeSpecs) -> Session:
    """Run one session and return it; ``ending`` holds the outcome."""
    session = Session(display)
    async with anyio.create_task_group() as listening:
        await listening.start(session.heed_signals)
        try:
            async with _open_server(session, plan) as (redis, server):
                await _serve(session, plan, redis, server, make_specs)
        except BorgError as error:
            session.fail(str(error), error.exit_code)
        listening.cancel_scope.cancel()
    return session


async def _serve(
    session: Session, plan: Plan, redis: RedisSettings, server: Valkey | None, make_specs: MakeSpecs
) -> None:
    start = _starter(plan, redis, server)
    agents = ChildGroup(session, start, server, vital=True)
    monitors, shippers = (ChildGroup(session, start, server, vital=False) for _ in range(2))
    async with (
        shippers.running(HELPER_GRACE_S) as begin_shippers,
        shipped(session, plan, redis, shippers),
        monitors.running(HELPER_GRACE_S) as begin_monitors,
        agents.running(plan.grace_s) as begin_agents,
    ):
        with session.intake:
            if server is not None and not await _becomes_ready(session, server):
                return
            specs = make_specs(plan, redis)
            begin_shippers(specs.shippers)
            begin_monitors(specs.monitors)
            begin_agents(specs.agents)
            async with anyio.create_task_group() as work:
                if server is not None:
                    work.start_soon(_watch_server, session, server)
                watcher = RunWatcher(session, plan)
                work.start_soon(watcher.watch, redis)
                work.start_soon(watcher.keep_time)


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
        try:
            await server.load_functions()
        except ServerError as error:  # a full one: the logshipper may empty it, so the run goes on
            session.remark(f"the replay memory's functions were not loaded: {error}")
    except BorgError as error:
        session.fail(str(error), error.exit_code)
        return False
    return True


def _starter(plan: Plan, redis: RedisSettings, server: Valkey | None) -> Callable[[ChildSpec], Awaitable[Child]]:
    def start(spec: ChildSpec) -> Awaitable[Child]:
        own = redis if server is None or spec.role is None else server.settings_of(spec.role)
        env = child_environment(own)
        return start_child(spec.name, spec.command, spec.log, env=env, lock_file=plan.lock_file)

    return start


async def _watch_server(session: Session, server: Valkey) -> None:
    await server.child.process.wait()
    session.end(await server.describe_death(), EXIT_SERVER)
