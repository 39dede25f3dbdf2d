from __future__ import annotations

import typer

from quorate.cluster.cli.options import Json
from quorate.cluster.cli.tables import show


def doctor(as_json: Json = False) -> None:
    """Check this machine: packages and versions, GPUs, memory, ports, limits, leftovers; exit code 1 if one fails.

    Example: quorate doctor
    """
    from quorate.cluster.operations import doctor as operation

    found = operation.doctor()
    show(found, found.to_dict(), as_json)
    if not found.healthy:
        raise typer.Exit(1)
