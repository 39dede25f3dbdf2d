from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from quorate.cluster.cli.options import Address, Json, LoadTimeout, share_of
from quorate.cluster.cli.tables import show, steps


def promote(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder.", show_default=False)],
    pick: Annotated[
        str | None,
        typer.Option(
            help="An alternative by its name, of several outputs mood=uniform,topic=tuned, or the number of one in a "
            "Pareto set; what is recommended if left out.",
            show_default=False,
        ),
    ] = None,
    anyway: Annotated[bool, typer.Option("--anyway", help="Also what the run's verdict advises against.")] = False,
    canary: Annotated[str | None, typer.Option(help="Share of the requests it gets first, such as 10%.")] = None,
    canary_seconds: Annotated[float, typer.Option(min=1.0, help="How long the canary is watched.")] = 30.0,
    timeout_s: LoadTimeout = 300,
    address: Address = None,
    as_json: Json = False,
) -> None:
    """Make what a run found the live revision, once it answers as the run did; quorate rollback goes back.

    Example: quorate promote runs/digits-20261123-120000 --canary 10%
    """
    from quorate.cluster.operations import promote as operation

    share = None if canary is None else share_of(canary, "--canary")
    with steps(as_json) as tell:
        done = operation.promote(
            run,
            pick=pick,
            anyway=anyway,
            canary=share,
            canary_s=canary_seconds,
            timeout_s=timeout_s,
            address=address,
            on_step=tell,
        )
    show(done, done.to_dict(), as_json)
