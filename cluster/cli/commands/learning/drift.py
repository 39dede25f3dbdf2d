from __future__ import annotations

from quorate.cluster.cli.options import Address, Json, Name
from quorate.cluster.cli.tables import show


def drift(name: Name, address: Address = None, as_json: Json = False) -> None:
    """Say whether members and answers are still what they were, and which member is not.

    Example: quorate drift digits
    """
    from quorate.cluster.operations.learning.drift import drift as operation

    found = operation(name, address=address)
    show(found, found.to_dict(), as_json)
