"""The ``borg`` command."""

import shlex
import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from typer.exceptions import Abort, TyperException

from borgcli.commands.events import show_events
from borgcli.launch.parent_death import end_with_uv
from borgcli.launch.plan import Flags, Plan, open_plan
from borgcli.launch.session import EXIT_CUT_OFF, EXIT_FAILED, EXIT_SERVER, Ending, Session
from borgcli.launch.supervisor import run_up
from borgcli.options import RunsFolder
from borgcli.screen.display import open_display
from borgcli.screen.duration import parse_duration
from borgcore.errors import BorgError, SettingsError
from borgcore.run.record import borg_version, list_runs, write_record
from borgcore.service.logs import configure_logs

_BAD_SETTINGS = 2
_MISMATCH = 4
_FAILURES = frozenset({EXIT_FAILED, _BAD_SETTINGS, EXIT_SERVER, _MISMATCH})
_EXIT_CODES = """Exit codes:

0 ended as asked: time over, return reached, or drained after Ctrl-C

1 something failed

2 bad settings

3 the server failed

4 what is stored belongs to something else

5 the time was over before the return was reached

130 cut off by a second Ctrl-C"""

app = typer.Typer(
    name="borg",
    help="Many Atari agents that learn as one mind from one replay memory.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"borg {borg_version()}")
        raise typer.Exit


@app.callback()
def _borg(
    version: Annotated[  # its callback acts
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Many Atari agents that learn as one mind from one replay memory."""


@app.command(epilog=_EXIT_CODES)
def up(  # noqa: PLR0917  # typer gives options by name
    agents: Annotated[
        int | None,
        typer.Option(min=1, max=1024, metavar="N", show_default="2, or 1 on a single core", help="Agent processes."),
    ] = None,
    game: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", show_default="pong", help="An Atari game (pong, breakout, space_invaders …), or catch."
        ),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            show_default="auto",
            help="small (42x42, for CPUs), nature (84x84, for GPUs), tiny (catch), or auto.",
        ),
    ] = None,
    time: Annotated[
        str | None, typer.Option("--for", metavar="TIME", show_default="go on", help="End after 90, 90s, 10m, 1h30m.")
    ] = None,
    until_return: Annotated[
        float | None,
        typer.Option(
            metavar="R",
            help="End when the mean return over the newest 20 episodes reaches R; of many agents, those that "
            "explore least are judged.",
        ),
    ] = None,
    run: Annotated[
        str | None, typer.Option(metavar="NAME", show_default="the game, date and time", help="Name of the run.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with --run NAME, or with the newest run.")] = False,
    seed: Annotated[
        int | None,
        typer.Option(
            min=0, max=2**31 - 1, metavar="N", show_default="drawn, and kept in run.json", help="Seed of the run."
        ),
    ] = None,
    capacity: Annotated[
        int | None, typer.Option(min=1, metavar="N", show_default="the preset's", help="Transitions the memory keeps.")
    ] = None,
    redis_url: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="A Redis or Valkey server of your own (redis://, rediss://, unix://) instead of the embedded one; "
            "its password comes from BORG_REDIS_PASSWORD.",
        ),
    ] = None,
    runs: RunsFolder = Path("runs"),
) -> None:
    """Start agents that play and learn, with a Valkey that is their memory, and show how they do.

    What happens is kept in the run's events.sqlite: borg events prints it.

    Ctrl-C drains: agents write their checkpoints, Valkey stops last; --resume goes on from there.
    """
    flags = Flags(
        agents=agents,
        game=game,
        preset=preset,
        seed=seed,
        capacity=capacity,
        redis_url=redis_url,
        run=run,
        resume=resume,
        for_s=None if time is None else _parse_time(time),
        until_return=until_return,
        runs=runs,
    )
    raise typer.Exit(start(flags))


app.command(name="events")(show_events)


@app.command(name="runs")
def show_runs(runs: RunsFolder = Path("runs")) -> None:
    """List the runs, newest first."""
    found = list_runs(runs)
    if not found:
        typer.echo(f"{runs} holds no run")
        return
    table = Table(box=None, pad_edge=False)
    for name in ("run", "game", "preset", "agents", "last at"):
        table.add_column(name, no_wrap=True, overflow="ignore")
    table.add_column("state")
    for folder, record in found:
        at = f"{record.updated.astimezone():%Y-%m-%d %H:%M}"
        state = record.describe_state(folder)
        table.add_row(folder.run, record.game, record.preset, str(record.agents), at, state)
    Console().print(table)


def start(flags: Flags) -> int:
    """Run one ``borg up``; returns its exit code."""
    by_uv = end_with_uv()
    with open_plan(flags) as plan:
        with open_display() as display:
            session = run_up(plan, display)
        ending = session.ending
        if ending is None:
            raise AssertionError("a session ended without saying why")
        if _never_began(plan, session, ending):
            shutil.rmtree(plan.folder.path, ignore_errors=True)  # nothing was learned, and the name is free again
        else:
            write_record(plan.folder, plan.record.ended(ending.text, ending.exit_code))
            if not ending.exit_code:
                typer.echo(f"ended: {ending.text}")
            for remark in session.remarks:  # they may have scrolled out of sight days ago
                typer.echo(f"but: {remark}")
            typer.echo(f"the run's files are in {plan.folder.path}\ngo on with: {_resume_command(plan, by_uv)}")
    if ending.exit_code:
        _complain(ending.text)
    return ending.exit_code


def _never_began(plan: Plan, session: Session, ending: Ending) -> bool:
    """Whether a new run failed before any agent played, and its folder has nothing that its user may want."""
    if plan.resumed or session.played or ending.exit_code not in _FAILURES or plan.folder.holds_memory():
        return False
    said = [ending.text, *session.remarks]
    return not any(str(log) in text for log in plan.folder.path.rglob("*.log") for text in said)  # sent there to read


def _parse_time(text: str) -> int:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise SettingsError(f"--for: {error}; nothing was started") from None


def _resume_command(plan: Plan, by_uv: bool) -> str:
    program = Path(sys.argv[0])
    on_path = not by_uv and shutil.which(program.name) == str(program)  # uv puts it on its own PATH alone
    command = [program.name if on_path else str(program), "up", "--resume", "--run", plan.folder.run]
    if plan.folder.path.parent != Path("runs"):
        command += ["--runs-dir", str(plan.folder.path.parent)]
    return shlex.join(command)


def _complain(text: str) -> None:
    sys.stderr.write(f"borg: {' '.join(text.split())}\n")


def main() -> None:
    """Run the command line."""
    configure_logs("error", "console", service="borg")  # below the table only what is said in words
    try:
        code = app(standalone_mode=False) or 0
    except TyperException as error:
        _complain(f"{error.format_message()} (see borg --help); nothing was started")
        code = _BAD_SETTINGS
    except BorgError as error:
        _complain(str(error))
        code = error.exit_code
    except (KeyboardInterrupt, Abort):
        code = EXIT_CUT_OFF
    except OSError as error:
        _complain(f"{error.filename or 'the system'}: {error.strerror}")
        code = EXIT_FAILED
    sys.exit(code)


if __name__ == "__main__":
    main()
