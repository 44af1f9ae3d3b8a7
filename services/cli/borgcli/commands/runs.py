"""``borg runs``: the runs of a folder."""

from pathlib import Path

import typer
from rich.console import Console
from rich.table import Table

from borgcli.options import RunsFolder


def show_runs(runs: RunsFolder = Path("runs")) -> None:
    """List the runs, newest first."""
    from borgcore.run.record import list_runs

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
