from __future__ import annotations

import typer

from quorate.cluster.cli.options import Address, Json, Spec
from quorate.cluster.cli.tables import show


def plan(spec: Spec, address: Address = None, as_json: Json = False) -> None:
    """Print which member goes on which node and GPU, and why not.

    Example: quorate plan digits.yaml --address auto
    """
    from quorate.cluster.operations import plan as operation

    found = operation.plan(spec, address=address)
    show(found, found.to_dict(), as_json)
    if not found.fits:
        raise typer.Exit(1)
