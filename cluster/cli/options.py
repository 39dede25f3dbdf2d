"""Options that several commands have, and the refusal of those that a call would not read."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

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
Url = Annotated[
    str | None,
    typer.Option(help="This HTTP address, or several with commas between them, instead of looking it up."),
]
LOOKED_UP = "an ensemble that is looked up, without --url"
RunAddress = Annotated[
    str | None,
    typer.Option(
        "--address",
        help="Run on this Ray cluster; without it, on this machine. Through its Jobs address http://HEAD:8265 all of "
        "it runs there, and the run's folder comes here.",
        show_default=False,
    ),
]
Label = Annotated[str, typer.Option(help="The column that holds the class.")]
Labels = Annotated[
    list[str] | None,
    typer.Option(
        "--label",
        metavar="COLUMN|OUTPUT=COLUMN",
        help="The column that holds the class; of several outputs a column each, called as they are when left out.",
        show_default="label",
    ),
]
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
Outputs = Annotated[
    str | None,
    typer.Option(
        metavar="NAME,NAME", help="Of several outputs those that are wanted; all without it.", show_default=False
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


def share_of(text: str, option: str) -> float:
    """Of 10% or 0.1.

    Raises:
        BadParameter: it is no number.
    """
    try:
        return float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        raise typer.BadParameter(f"'{text}' is no share; write 10% or 0.1", param_hint=option) from None


def names_of(given: str | None) -> tuple[str, ...]:
    """Of ``mood,topic`` both names; none without any."""
    return tuple(filter(None, (name.strip() for name in (given or "").split(","))))


def by_output(given: Sequence[str] | None, option: str) -> str | dict[str, str] | None:
    """Of ``--label mood=Mood --label topic=Topic`` what is given for each output; of one alone its text.

    Raises:
        BadParameter: of several one names no output, or an output twice.
    """
    if not given:
        return None
    if len(given) == 1:
        return given[0]
    found: dict[str, str] = {}
    for text in given:
        name, _, value = text.partition("=")
        if not name or not value or name in found:
            raise typer.BadParameter(f"{option} '{text}' names no output, or one twice; write OUTPUT=VALUE for each")
        found[name] = value
    return found


def label_of(given: Sequence[str] | None) -> dict[str, Any]:
    """The argument ``label``, where the option was given."""
    label = by_output(given, "--label")
    return {} if label is None else {"label": label}


def numbers_by_output(given: Sequence[str] | None, option: str) -> float | dict[str, float] | None:
    """The same of numbers.

    Raises:
        BadParameter: as well for what is no number of 0 or more.
    """
    found = by_output(given, option)
    if isinstance(found, str) and "=" in found:
        name, _, value = found.partition("=")
        found = {name: value}
    if isinstance(found, dict):
        return {name: _number(value, option) for name, value in found.items()}
    return None if found is None else _number(found, option)


def _number(text: str, option: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number < float("inf"):
        raise typer.BadParameter(f"{option} '{text}' is no number of 0 or more")
    return number


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
