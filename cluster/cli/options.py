"""Options that several commands have, and the refusal of those that a call would not read."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

Spec = Annotated[Path, typer.Argument(metavar="SPEC", help="The spec file.", show_default=False)]
Name = Annotated[str, typer.Argument(metavar="NAME", help="The ensemble.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object, for machines.")]
Address = Annotated[
    str | None,
    typer.Option(
        help="The Ray cluster (a node's host:port, auto, or its Jobs address http://HEAD:8265); the local one without.",
        show_default=False,
    ),
]
RunAddress = Annotated[
    str | None,
    typer.Option("--address", help="Run on this Ray cluster; without it, on this machine.", show_default=False),
]
Label = Annotated[str, typer.Option(help="The column that holds the class.")]
Columns = Annotated[
    list[str] | None,
    typer.Option(
        "--column",
        metavar="INPUT=COLUMN",
        help="The column of an input that is called otherwise, such as price=Price; several with commas, or a pattern "
        "such as image=pixel*, make one vector.",
        show_default=False,
    ),
]
Runs = Annotated[Path, typer.Option(help="Where the run's folder is made.")]
Seed = Annotated[int, typer.Option(min=0, help="Seed of all that is drawn.")]
_UNITS_S = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}
Store = Annotated[
    str | None,
    typer.Option(
        metavar="URI",
        help="Keep what the spec names here too (s3://, gs://, file:///), for nodes to have it from.",
        show_default=False,
    ),
]
LoadTimeout = Annotated[float, typer.Option("--timeout", min=1, help="Seconds the members may take to load.")]


def as_columns(given: Iterable[str] | None) -> dict[str, str] | None:
    """Of ``--column price=Price`` the column of each input; None without any.

    Raises:
        BadParameter: one names no column, or an input twice.
    """
    found: dict[str, str] = {}
    for text in given or ():
        name, _, column = text.partition("=")
        if not name or not column or name in found:
            raise typer.BadParameter(f"'{text}' names no column, or an input twice; write price=Price, x=x0,x1")
        found[name] = column
    return found or None


def seconds_of(text: str | None, option: str) -> float | None:
    """Of 480, 480s, 8m or 1.5h.

    Raises:
        BadParameter: it is no time.
    """
    if text is None:
        return None
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]*)?)\s*([smh]?)", text.strip())
    seconds = float(found[1]) * _UNITS_S[found[2]] if found else 0.0
    if not 1 <= seconds < float("inf"):
        raise typer.BadParameter(f"'{text}' is no time from 1 s on, such as 90, 90s, 8m or 1.5h", param_hint=option)
    return seconds


def refuse(context: typer.Context, parameters: Iterable[str], use: str) -> None:
    """Refuse options that were given, but are only read in another use of the command.

    Args:
        parameters: of the command's function.
        use: that would read them.

    Raises:
        BadParameter: names the options that were given.
    """
    refused = set(parameters)
    found = [
        parameter.opts[0]
        for parameter in context.command.params
        if parameter.name in refused and _is_given(context, parameter.name)
    ]
    if found:
        raise typer.BadParameter(f"{', '.join(found)} {'is' if len(found) == 1 else 'are'} for {use}")


def _is_given(context: typer.Context, parameter: str) -> bool:
    source = context.get_parameter_source(parameter)
    return source is not None and source.name == "COMMANDLINE"
