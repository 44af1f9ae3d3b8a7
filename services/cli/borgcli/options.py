"""The options of ``borg up``, and those that several commands share; each is declared once."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_type_hints

import typer

from borgcli.screen.duration import parse_duration
from borgcore.errors import SettingsError

RunsFolder = Annotated[Path, typer.Option("--runs-dir", metavar="PATH", help="Folder that holds the runs.")]
OptionsT = TypeVar("OptionsT")


def _parse_time(text: str) -> int:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise SettingsError(f"--for: {error}; nothing was started") from None


@dataclass(frozen=True)
class Flags:
    """The command line of ``borg up``; None if not given."""

    agents: Annotated[
        int | None,
        typer.Option(min=1, max=1024, metavar="N", show_default="2, or 1 on a single core", help="Agent processes."),
    ] = None
    game: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", show_default="pong", help="An Atari game (pong, breakout, space_invaders …), or catch."
        ),
    ] = None
    preset: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            show_default="auto",
            help="small (42x42, for CPUs), nature (84x84, for GPUs), tiny (catch), or auto.",
        ),
    ] = None
    for_s: Annotated[
        float | None,
        typer.Option(
            "--for", parser=_parse_time, metavar="TIME", show_default="go on", help="End after 90, 90s, 10m, 1h30m."
        ),
    ] = None
    until_return: Annotated[
        float | None,
        typer.Option(
            metavar="R",
            help="End when the mean return over the newest 20 episodes reaches R; of many agents, those that "
            "explore least are judged.",
        ),
    ] = None
    run: Annotated[
        str | None, typer.Option(metavar="NAME", show_default="the game, date and time", help="Name of the run.")
    ] = None
    resume: Annotated[bool, typer.Option("--resume", help="Go on with --run NAME, or with the newest run.")] = False
    seed: Annotated[
        int | None,
        typer.Option(
            min=0, max=2**31 - 1, metavar="N", show_default="drawn, and kept in run.json", help="Seed of the run."
        ),
    ] = None
    capacity: Annotated[
        int | None, typer.Option(min=1, metavar="N", show_default="the preset's", help="Transitions the memory keeps.")
    ] = None
    redis_url: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="A Redis or Valkey server of your own (redis://, rediss://, unix://) instead of the embedded one; "
            "its password comes from BORG_REDIS_PASSWORD.",
        ),
    ] = None
    runs: RunsFolder = Path("runs")


def command_of(options: type[OptionsT], run: Callable[[OptionsT], int]) -> Callable[..., None]:
    """Return a command with the options that a dataclass declares; it exits with what ``run`` returns."""

    def command(**given: Any) -> None:
        raise typer.Exit(run(options(**given)))

    command.__doc__ = run.__doc__
    command.__signature__ = inspect.signature(options)  # type: ignore[attr-defined]  # inspect honours it, mypy does not know it
    command.__annotations__ = get_type_hints(options, include_extras=True)
    return command
