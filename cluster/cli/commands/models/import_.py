from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from quorate.cluster.cli.options import Json
from quorate.cluster.cli.tables import show


class Kind(str, Enum):
    """What can be imported."""

    autogluon = "autogluon"


def import_(
    kind: Annotated[Kind, typer.Argument(help="What the folder is of.", show_default=False)],
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="The predictor's folder.", show_default=False)],
    out: Annotated[Path, typer.Option(help="The folder to write, new or empty.", show_default=False)],
    name: Annotated[
        str | None, typer.Option(help="Of the ensemble; the folder's when left out.", show_default=False)
    ] = None,
    as_json: Json = False,
) -> None:
    """Write a spec that answers as an ensemble of another library does, member by member.

    AutoGluon's predictors are pickles, which RUN CODE when they are read: import only what you trust.

    Example: quorate import autogluon AutogluonModels/ag-20261129 --out house-prices
    """
    from quorate.cluster.operations.models import import_autogluon as operation

    done = operation.import_autogluon(folder, out=out, name=name, on_step=_say)
    show(done, done.to_dict(), as_json)


def _say(step: str) -> None:
    typer.echo(step, err=True)
