from __future__ import annotations

from typing import Annotated

import typer

from quorate.cluster.cli.options import Address, Json
from quorate.cluster.cli.tables import show


def down(
    name: Annotated[
        str | None,
        typer.Argument(metavar="[NAME]", help="The ensemble; all, and the local cluster, without it."),
    ] = None,
    address: Address = None,
    as_json: Json = False,
) -> None:
    """Take an ensemble down; without a name, stop the local cluster and leave nothing behind.

    Example: quorate down
    """
    from quorate.cluster.operations import down as operation

    done = operation.down(name, address=address)
    show(done, done.to_dict(), as_json)
