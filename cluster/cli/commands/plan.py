from __future__ import annotations

import typer

from quorate.cluster.cli.options import Address, Json, Spec
from quorate.cluster.cli.tables import show


def plan(spec: Spec, address: Address = None, as_json: Json = False) -> None:
    """Print what a deployment would start and where, what it leaves as it is, and why.

    Example: quorate plan digits.yaml --address auto
    """
    from quorate.cluster.operations import plan as operation

    found = operation.plan(spec, address=address)
    show(found, found.to_dict(), as_json)
    if not found.fits:
        raise typer.Exit(1)
