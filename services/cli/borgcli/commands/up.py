"""``borg up``: run agents until something ends the run, then summarise how it ended."""

import shlex
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from borgcli.exit_codes import EXIT_FAILED, EXIT_MISMATCH, EXIT_SERVER, EXIT_SETTINGS
from borgcli.launch.parent_death import end_with_uv
from borgcli.options import Flags
from borgcli.screen.error_line import print_error

if TYPE_CHECKING:
    from borgcli.launch.plan import Plan
    from borgcli.launch.session import Ending, Session

_FAILURES = frozenset({EXIT_FAILED, EXIT_SETTINGS, EXIT_SERVER, EXIT_MISMATCH})


def up(flags: Flags) -> int:
    """Start agents that play and learn, with a Valkey that is their memory, and show how they do.

    What happens is kept in the run's events.sqlite: borg events prints it.

    Ctrl-C drains: agents write their checkpoints, Valkey stops last; --resume goes on from there.
    """
    from borgcli.launch.plan import open_plan
    from borgcli.launch.supervisor import run_up
    from borgcli.screen.display import open_display
    from borgcore.run.record import write_record

    by_uv = end_with_uv()
    with open_plan(flags) as plan:
        with open_display() as display:
            session = run_up(plan, display)
        ending = session.ending
        if ending is None:
            raise AssertionError("a session ended without saying why")
        if _never_began(plan, session, ending):
            shutil.rmtree(plan.folder.path, ignore_errors=True)  # nothing was learned: free the name
        else:
            write_record(plan.folder, plan.record.ended(ending.text, ending.exit_code))
            if not ending.exit_code:
                typer.echo(f"ended: {ending.text}")
            for remark in session.remarks:  # they may have scrolled away days ago
                typer.echo(f"but: {remark}")
            typer.echo(f"the run's files are in {plan.folder.path}\ngo on with: {_resume_command(plan, by_uv)}")
    if ending.exit_code:
        print_error(ending.text)
    return ending.exit_code


def _never_began(plan: "Plan", session: "Session", ending: "Ending") -> bool:
    """Return whether a new run failed before any agent played and left nothing in its folder worth keeping."""
    if plan.resumed or session.played or ending.exit_code not in _FAILURES or plan.folder.holds_memory():
        return False
    said = [ending.text, *session.remarks]
    # a log that a message points to must stay
    return not any(str(log) in text for log in plan.folder.path.rglob("*.log") for text in said)


def _resume_command(plan: "Plan", by_uv: bool) -> str:
    program = Path(sys.argv[0])
    on_path = not by_uv and shutil.which(program.name) == str(program)  # under uv run, only uv's PATH has it
    command = [program.name if on_path else str(program), "up", "--resume", "--run", plan.folder.run]
    if plan.folder.path.parent != Path("runs"):
        command += ["--runs-dir", str(plan.folder.path.parent)]
    return shlex.join(command)
