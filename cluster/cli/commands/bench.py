from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from quorate.cluster.cli import door_options
from quorate.cluster.cli.options import LOOKED_UP, Address, Columns, Json, Name, Url, as_columns, refuse
from quorate.cluster.cli.tables import show


def bench(
    context: typer.Context,
    name: Name,
    input_file: Annotated[
        Path | None,
        typer.Option(
            "--input",
            help="Rows to send in turn, any file that query reads; random ones without it.",
            show_default=False,
        ),
    ] = None,
    column: Columns = None,
    clients: Annotated[int, typer.Option(min=1, help="Connections; each waits for its answer.")] = 8,
    rate: Annotated[
        float | None,
        typer.Option(
            min=0.001, help="Requests a second, sent on time whatever comes back (open loop).", show_default=False
        ),
    ] = None,
    rows: Annotated[int, typer.Option(min=1, help="Rows in each request.")] = 1,
    duration_s: Annotated[float, typer.Option("--duration", min=0.1, help="Seconds to measure.")] = 10.0,
    member: Annotated[str | None, typer.Option(help="Load this member alone.")] = None,
    url: Url = None,
    auth_token_file: door_options.TokenFile = None,
    ca: door_options.Ca = None,
    cert: door_options.Cert = None,
    key: door_options.Key = None,
    address: Address = None,
    as_json: Json = False,
) -> None:
    """Load a running ensemble, with random valid input or rows of your own, and print latency and throughput.

    Example: quorate bench digits --clients 64 --duration 10
    """
    from quorate.cluster.operations import bench as operation

    if url is not None:
        refuse(context, ["address"], LOOKED_UP)
    if input_file is None:
        refuse(context, ["column"], "--input")
    result = operation.bench(
        name, inputs=input_file, columns=as_columns(column), clients=clients, rate=rate, rows=rows,
        duration_s=duration_s, member=member, url=url, address=address,
        credentials=door_options.credentials(auth_token_file, ca, cert, key),
    )  # fmt: skip
    show(result, result.to_dict(), as_json)
