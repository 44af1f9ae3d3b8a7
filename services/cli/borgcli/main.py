"""The ``borg`` command."""

import sys
from typing import Annotated

import typer
from typer.exceptions import Abort, TyperException

from borgcli.commands.events import show_events
from borgcli.commands.runs import show_runs
from borgcli.commands.up import up
from borgcli.exit_codes import EXIT_FAILED, EXIT_SETTINGS, describe_exit_codes
from borgcli.options import Flags, command_of
from borgcli.screen.error_line import print_error
from borgcore.errors import EXIT_CUT_OFF, BorgError

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
        from borgcore.run.record import borg_version

        typer.echo(f"borg {borg_version()}")
        raise typer.Exit


@app.callback()
def _borg(
    version: Annotated[  # noqa: ARG001  # its callback acts
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Many Atari agents that learn as one mind from one replay memory."""
    from borgcore.service.logs import configure_logs

    configure_logs("error", "console", service="borg")  # the display has the screen; only errors are logged


app.command(name="up", epilog=describe_exit_codes())(command_of(Flags, up))
app.command(name="events")(show_events)
app.command(name="runs")(show_runs)


def main() -> None:
    """Run the command line."""
    try:
        code = app(standalone_mode=False) or 0
    except TyperException as error:
        print_error(f"{error.format_message()} (see borg --help); nothing was started")
        code = EXIT_SETTINGS
    except BorgError as error:
        print_error(str(error))
        code = error.exit_code
    except (KeyboardInterrupt, Abort):
        code = EXIT_CUT_OFF
    except OSError as error:
        print_error(f"{error.filename or 'the system'}: {error.strerror}")
        code = EXIT_FAILED
    sys.exit(code)


if __name__ == "__main__":
    main()
