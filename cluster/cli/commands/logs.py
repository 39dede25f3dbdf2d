from __future__ import annotations

from typing import Annotated

import typer

from quorate.cluster.cli.options import Address, Json, Name
from quorate.cluster.cli.tables import show


def logs(
    name: Name,
    member: Annotated[str | None, typer.Argument(metavar="[MEMBER]", help="All members without it.")] = None,
    lines: Annotated[int, typer.Option(min=1, help="The last lines of each replica.")] = 200,
    address: Address = None,
    as_json: Json = False,
) -> None:
    """Show what members printed, warned of and failed with; kept for a day after they have ended.

    Of failures on requests the first of each kind is there whole, then one a minute with how many there were.

    Example: quorate logs digits cnn
    """
    from quorate.cluster.operations import logs as operation

    found = operation.logs(name, member, lines=lines, address=address)
    show(found, found.to_dict(), as_json)
