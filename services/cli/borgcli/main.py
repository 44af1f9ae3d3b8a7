"""The ``borg`` command."""

import sys
from typing import Annotated

import typer
from typer.exceptions import Abort, TyperException

from borgcli.commands.events import show_events
from borgcli.commands.runs import show_runs
from borgcli.commands.up import up
from borgcli.launch.session import EXIT_CUT_OFF, EXIT_FAILED
from borgcli.options import Flags, command_of
from borgcli.screen.display import complain
from borgcore.errors import BorgError, SettingsError
from borgcore.run.record import borg_version
from borgcore.service.logs import configure_logs

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


app.command(name="up", epilog=_EXIT_CODES)(command_of(Flags, up))
app.command(name="events")(show_events)
app.command(name="runs")(show_runs)


def main() -> None:
    """Run the command line."""
    configure_logs("error", "console", service="borg")  # the display has the screen; only errors are logged
    try:
        code = app(standalone_mode=False) or 0
    except TyperException as error:
        complain(f"{error.format_message()} (see borg --help); nothing was started")
        code = SettingsError.exit_code
    except BorgError as error:
        complain(str(error))
        code = error.exit_code
    except (KeyboardInterrupt, Abort):
        code = EXIT_CUT_OFF
    except OSError as error:
        complain(f"{error.filename or 'the system'}: {error.strerror}")
        code = EXIT_FAILED
    sys.exit(code)


if __name__ == "__main__":
    main()
