"""Options of the command line about traces and logs."""

from __future__ import annotations

from typing import Annotated

import typer

OtlpEndpoint = Annotated[
    str | None,
    typer.Option(help="URL of the OTLP receiver (gRPC) that traces go to; '' for none.", show_default=False),
]
TraceRatio = Annotated[
    float | None,
    typer.Option(
        min=0,
        max=1,
        help="Share that is traced of requests that come without a trace; 0.01 when traces are turned on.",
        show_default=False,
    ),
]
LogFormat = Annotated[
    str | None, typer.Option(help="Of what members and doors write: text or json.", show_default=False)
]
