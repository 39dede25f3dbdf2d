from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from quorate.cluster.cli.options import Address, Json, LoadTimeout, Name, refuse, share_of
from quorate.cluster.cli.tables import show, steps


def shadow(
    context: typer.Context,
    name: Name,
    spec: Annotated[
        Path | None,
        typer.Argument(metavar="[SPEC]", help="Another fusion, or other members.", show_default=False),
    ] = None,
    share: Annotated[
        str | None,
        typer.Option(
            help="Of the requests, such as 5%, that members are asked for which what is live does not ask; else the "
            "spec's shadow_share.",
            show_default=False,
        ),
    ] = None,
    report: Annotated[
        bool, typer.Option("--report", help="Judge shadows by the labels of recorded answers, too.")
    ] = False,
    remove: Annotated[
        str | None, typer.Option(metavar="REVISION", help="One that is to be none any more.", show_default=False)
    ] = None,
    promote: Annotated[
        str | None, typer.Option(metavar="REVISION", help="One that is to go live.", show_default=False)
    ] = None,
    canary: Annotated[
        str | None, typer.Option(help="Share of the requests that it gets first, such as 10%.", show_default=False)
    ] = None,
    canary_seconds: Annotated[float, typer.Option(min=1.0, help="How long the canary is watched.")] = 30.0,
    timeout_s: LoadTimeout = 300,
    address: Address = None,
    as_json: Json = False,
) -> None:
    """Compute other fusions beside the live one, on what its members give anyway, and compare them.

    Members that the live one does not ask run for the shadow alone, and are asked for a share of the requests.

    Example: quorate shadow digits runs/digits/spec.yaml, and later quorate shadow digits --report
    """
    if promote is None:
        refuse(context, ["canary", "canary_seconds"], "--promote")
    if spec is None:
        refuse(context, ["share"], "a spec that is made a shadow")
    from quorate.cluster.operations import shadow as operation

    with steps(as_json) as tell:
        done = operation.shadow(
            name,
            spec,
            share=None if share is None else share_of(share, "--share"),
            report=report,
            remove=remove,
            promote=promote,
            canary=None if canary is None else share_of(canary, "--canary"),
            canary_s=canary_seconds,
            timeout_s=timeout_s,
            address=address,
            on_step=tell,
        )
    show(done, done.to_dict(), as_json)
