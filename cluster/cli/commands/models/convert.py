from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from quorate.cluster.cli.options import Json
from quorate.cluster.cli.tables import show


def convert(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A file of torch.save, or a pickled estimator.", show_default=False)
    ],
    to: Annotated[
        str | None, typer.Option(help="The format to write, safetensors or skops.", show_default=False)
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="The file to write; beside FILE when left out.", show_default=False)
    ] = None,
    as_json: Json = False,
) -> None:
    """Write the weights of a .pt, .pth, .ckpt or .bin file as safetensors, an estimator of .joblib or .pkl by skops.

    These can run no code. A pickle of a whole module, or of an estimator, is read in a process of its own and RUNS CODE
    that is in the file: convert only files from where you trust.

    Example: quorate convert model.pt --to safetensors
    """
    from quorate.cluster.operations.models import convert as operation

    done = operation.convert(file, to=to, output=output, on_step=_say)
    show(done, done.to_dict(), as_json)


def _say(step: str) -> None:
    if step.startswith("warning"):
        typer.echo(step, err=True)
