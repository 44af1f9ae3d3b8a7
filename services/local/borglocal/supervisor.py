"""One ``borg up`` from start to end: Valkey, then the agents; then the agents' drain, and Valkey last."""

import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import anyio
from anyio import CancelScope

from borgcore.errors import BorgError
from borgcore.settings import RedisSettings
from borglocal.children import Child, start_child
from borglocal.crew import Crew
from borglocal.display import Display
from borglocal.plan import PASSWORD_VARIABLE, Plan
from borglocal.reporter import Reporter
from borglocal.session import EXIT_SERVER, Session
from borglocal.valkey import Valkey, open_valkey

AgentCommand = Callable[[Plan, RedisSettings], list[str]]


def agent_command(plan: Plan, redis: RedisSettings) -> list[str]:
    """Write the command line of an agent; the password goes by the environment."""
    record = plan.record
    command = [sys.executable, "-P", "-m", "borgagent.main"]
    command += ["--run", plan.folder.run, "--redis-url", redis.url]
    command += ["--game", record.game, "--preset", record.preset, "--seed", str(record.seed)]
    command += ["--checkpoint-dir", str(plan.folder.checkpoints)]
    command += ["--log-format", "json", "--grace-s", f"{plan.grace_s:g}"]
    return command if record.capacity is None else [*command, "--replay.capacity", str(record.capacity)]


def run_up(plan: Plan, display: Display, command: AgentCommand = agent_command) -> Session:
    """Run until something ends it; every process that was started has ended then."""
    return anyio.run(supervise, plan, display, command)


async def supervise(plan: Plan, display: Display, command: AgentCommand) -> Session:
    """Run one session; its ``ending`` says how it went."""
    session = Session(display)
    async with anyio.create_task_group() as listening:
        await listening.start(session.heed_signals)
        try:
            await _serve(session, plan, command)
        except BorgError as error:
            session.fail(str(error), error.exit_code)
        listening.cancel_scope.cancel()
    return session


async def _serve(session: Session, plan: Plan, command: AgentCommand) -> None:
    async with _open_server(session, plan) as (redis, server):
        crew = Crew(session, _starter(plan, redis, command), server)
        try:
            with session.intake:
                if server is not None:
                    await server.wait_ready(session.display.show_phase)
                async with anyio.create_task_group() as work:
                    if server is not None:
                        work.start_soon(_watch_server, session, server)
                    for slot in range(1, plan.record.agents + 1):
                        work.start_soon(crew.keep, slot)
                    reporter = Reporter(session, plan)
                    work.start_soon(reporter.watch, redis)
                    work.start_soon(reporter.keep_time)
        finally:
            with CancelScope(shield=True):
                await crew.drain(plan.grace_s)


@asynccontextmanager
async def _open_server(session: Session, plan: Plan) -> AsyncIterator[tuple[RedisSettings, Valkey | None]]:
    external = plan.external_redis()
    if external is not None:
        yield external, None
        return
    session.display.show_phase("starting Valkey")
    async with open_valkey(plan.folder, plan.lock_file, session.display.say) as server:
        yield server.settings, server


def _starter(plan: Plan, redis: RedisSettings, command: AgentCommand) -> Callable[[int], Awaitable[Child]]:
    env = {} if redis.password is None else {PASSWORD_VARIABLE: redis.password.get_secret_value()}

    def start(slot: int) -> Awaitable[Child]:
        log = plan.folder.agent_log(slot)
        return start_child(f"agent process {slot}", command(plan, redis), log, env=env, lock_file=plan.lock_file)

    return start


async def _watch_server(session: Session, server: Valkey) -> None:
    await server.child.process.wait()
    session.end(await server.describe_death(), EXIT_SERVER)
