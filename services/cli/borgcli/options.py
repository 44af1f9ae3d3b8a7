"""Options that several commands of ``borg`` have."""

from pathlib import Path
from typing import Annotated

import typer

RunsFolder = Annotated[Path, typer.Option("--runs-dir", metavar="PATH", help="Folder that holds the runs.")]
