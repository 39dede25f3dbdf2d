from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Annotated

import typer

from quorate.cluster.cli.options import Columns, Json, Outputs, Spec, as_columns, names_of
from quorate.cluster.cli.tables import show


def try_spec(
    spec: Spec,
    input_file: Annotated[Path, typer.Option("--input", help="Rows to ask about, as for quorate query.")],
    column: Columns = None,
    member: Annotated[str | None, typer.Option(help="Ask this member alone.")] = None,
    explain: Annotated[bool, typer.Option(help="Also give each member's output and contribution.")] = False,
    outputs: Outputs = None,
    as_json: Json = False,
) -> None:
    """Run a spec in this process, without Ray, and answer rows as a server would, in seconds.

    Example: quorate try digits.yaml --input rows.npy
    """
    from quorate.cluster.operations import try_spec as operation

    with contextlib.redirect_stdout(sys.stderr):  # what members print is no part of the answer
        result = operation.try_spec(
            spec, input_file, member=member, explain=explain, outputs=names_of(outputs), columns=as_columns(column)
        )
    show(result, result.to_dict(), as_json)
