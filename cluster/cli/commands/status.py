from __future__ import annotations

from typing import Annotated

import typer

from quorate.cluster.cli.options import Address, Json
from quorate.cluster.cli.tables import show


def status(
    online: Annotated[
        bool, typer.Option("--online", help="All of what weights that learn have come to, through time.")
    ] = False,
    address: Address = None,
    as_json: Json = False,
) -> None:
    """Show what runs: each ensemble, its revision and doors, each member's replicas.

    Example: quorate status
    """
    from quorate.cluster.operations import status as operation

    found = operation.status(online=online, address=address)
    show(found, found.to_dict(), as_json)
