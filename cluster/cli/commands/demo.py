from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from quorate.cluster.cli.options import Json, refuse
from quorate.cluster.cli.tables import show, steps


def demo(
    context: typer.Context,
    data: Annotated[
        Path | None,
        typer.Option(help="A folder of MNIST's IDX files, instead of scikit-learn's digits."),
    ] = None,
    full: Annotated[bool, typer.Option(help="With --data: all of it, not a subset.")] = False,
    as_json: Json = False,
) -> None:
    """Train, tune, deploy, ask and report: the whole loop on real handwritten digits, offline.

    Example: quorate demo
    """
    from quorate.cluster import demo as demonstration

    if data is None:
        refuse(context, ["full"], "--data")
    with steps(as_json) as tell:
        report = demonstration.demo(data, full=full, on_step=tell)
    show(report, report.to_dict(), as_json)
