from __future__ import annotations

import sys
from typing import Annotated

import typer

from quorate.cluster.cli.options import Address, Json, Name, seconds_of
from quorate.cluster.cli.tables import show


def logs(
    name: Name,
    member: Annotated[str | None, typer.Argument(metavar="[MEMBER]", help="All members without it.")] = None,
    lines: Annotated[int, typer.Option(min=1, help="The last lines of each replica.")] = 200,
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="Only of the last 90s, 10m or 2h.", show_default=False)
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what is written, until Ctrl-C.")] = False,
    address: Address = None,
    as_json: Json = False,
) -> None:
    """Show what members printed, warned of and failed with; kept for a day after they have ended.

    Of failures on requests the first of each kind is there whole, then one a minute with how many there were.

    Example: quorate logs digits cnn --since 10m --follow
    """
    from quorate.cluster.operations import logs as operation

    since_s = seconds_of(since, "--since")
    if not follow:
        found = operation.logs(name, member, lines=lines, since_s=since_s, address=address)
        show(found, found.to_dict(), as_json)
        return
    for found in operation.follow_logs(name, member, lines=lines, since_s=since_s, address=address):
        show(found, found.to_dict(), as_json)
        sys.stdout.flush()
