from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from quorate.cluster.cli import door_options
from quorate.cluster.cli.options import (
    LOOKED_UP,
    Address,
    Columns,
    Json,
    Name,
    Outputs,
    Url,
    as_columns,
    names_of,
    refuse,
)
from quorate.cluster.cli.tables import show


def query(
    context: typer.Context,
    name: Name,
    input_file: Annotated[
        Path,
        typer.Option(
            "--input", help="Rows to ask about: .csv, .parquet, .arrow, .json, .jsonl, .npy, .npz, or a folder of them."
        ),
    ],
    column: Columns = None,
    output_file: Annotated[
        Path | None,
        typer.Option("--output", help="Write the answers here, .parquet or .arrow; for rows by the million."),
    ] = None,
    member: Annotated[str | None, typer.Option(help="Ask this member alone.")] = None,
    outputs: Outputs = None,
    deadline_ms: Annotated[float | None, typer.Option(min=0, help="Answer within this time.")] = None,
    explain: Annotated[bool, typer.Option(help="Also give each member's output and contribution.")] = False,
    curl: Annotated[bool, typer.Option("--curl", help="Send nothing; print the request as a line of curl.")] = False,
    url: Url = None,
    auth_token_file: door_options.TokenFile = None,
    ca: door_options.Ca = None,
    cert: door_options.Cert = None,
    key: door_options.Key = None,
    address: Address = None,
    as_json: Json = False,
) -> None:
    """Ask a running ensemble.

    Example: quorate query digits --input rows.npy
    """
    if url is not None:
        refuse(context, ["address"], LOOKED_UP)
    asked: dict[str, Any] = {
        "member": member, "deadline_ms": deadline_ms, "explain": explain, "url": url, "address": address,
        "columns": as_columns(column), "outputs": names_of(outputs),
        "credentials": door_options.credentials(auth_token_file, ca, cert, key),
    }  # fmt: skip
    from quorate.cluster.operations import query as operation

    if curl:
        refuse(context, ["output_file", "as_json"], "a query that is sent, without --curl")
        return print(operation.curl(name, input_file, **asked))
    if output_file is not None:
        from quorate.cluster.operations.query_file import query_file

        answered = query_file(name, input_file, output_file, **asked)
        return show(answered, answered.to_dict(), as_json)
    result = operation.query(name, input_file, **asked)
    return show(result, result.to_dict(), as_json)
