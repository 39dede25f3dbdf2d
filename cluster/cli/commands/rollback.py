from __future__ import annotations

from quorate.cluster.cli.options import Address, Json, Name
from quorate.cluster.cli.tables import show


def rollback(name: Name, address: Address = None, as_json: Json = False) -> None:
    """Go back to the revision before the live one, while requests run.

    Example: quorate rollback digits
    """
    from quorate.cluster.operations import rollback as operation

    done = operation.rollback(name, address=address)
    show(done, done.to_dict(), as_json)
