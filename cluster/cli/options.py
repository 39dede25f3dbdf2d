"""What the commands have in common: the words of their options, and how they show what came out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

Spec = Annotated[Path, typer.Argument(metavar="SPEC", help="The spec file.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object, for machines.")]
Address = Annotated[
    Optional[str],  # noqa: UP045  (typer reads the annotation at run time, also on Python 3.10)
    typer.Option(help="The Ray cluster to join (host:port or auto); without it, the local one.", show_default=False),
]


def show(data: Any, as_json: bool, text: Any) -> None:
    if as_json:
        print(json.dumps(data))
    else:
        from rich.console import Console

        Console(highlight=False, soft_wrap=isinstance(text, str)).print(text, markup=False)
