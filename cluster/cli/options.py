"""Options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

# typer reads annotations at run time, also on Python 3.10: Optional it must be.
Spec = Annotated[Path, typer.Argument(metavar="SPEC", help="The spec file.", show_default=False)]
Name = Annotated[str, typer.Argument(metavar="NAME", help="The ensemble.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object, for machines.")]
Address = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(help="The Ray cluster to join (host:port or auto); without it, the local one.", show_default=False),
]
RunAddress = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--address", help="Run on this Ray cluster; without it, on this machine.", show_default=False),
]
Label = Annotated[str, typer.Option(help="The column that holds the class.")]
Runs = Annotated[Path, typer.Option(help="Where the run's folder is made.")]
