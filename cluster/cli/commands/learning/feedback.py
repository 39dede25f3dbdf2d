from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from quorate.cluster.cli import door_options
from quorate.cluster.cli.options import LOOKED_UP, Address, Json, Name, Url, refuse
from quorate.cluster.cli.tables import show


def feedback(
    context: typer.Context,
    name: Name,
    labels: Annotated[
        Path,
        typer.Option(
            help="Labels: .csv, .parquet, .arrow, .json or .jsonl with columns id and label, and row or output."
        ),
    ],
    output: Annotated[str, typer.Option(help="The output that they are of, where there are several.")] = "",
    url: Url = None,
    auth_token_file: door_options.TokenFile = None,
    ca: door_options.Ca = None,
    cert: door_options.Cert = None,
    key: door_options.Key = None,
    address: Address = None,
    as_json: Json = False,
) -> None:
    """Tell a running ensemble what was true of rows that it answered.

    Example: quorate feedback digits --labels labels.csv
    """
    if url is not None:
        refuse(context, ["address"], LOOKED_UP)
    from quorate.cluster.operations.learning.feedback import feedback as operation

    credentials = door_options.credentials(auth_token_file, ca, cert, key)
    found = operation(name, labels, output=output, url=url, credentials=credentials, address=address)
    show(found, found.to_dict(), as_json)
