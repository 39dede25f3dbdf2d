from __future__ import annotations

from quorate.cluster.cli.options import Address, Json
from quorate.cluster.cli.tables import show


def status(address: Address = None, as_json: Json = False) -> None:
    """Show what runs: each ensemble, its revision and doors, each member's replicas.

    Example: quorate status
    """
    from quorate.cluster.operations import status as operation

    found = operation.status(address=address)
    show(found, found.to_dict(), as_json)
