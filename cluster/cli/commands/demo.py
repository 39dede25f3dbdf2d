from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from quorate.cluster.cli.options import Json
from quorate.cluster.cli.tables import show, steps


def demo(
    data: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="A folder of MNIST's IDX files, instead of scikit-learn's digits."),
    ] = None,
    full: Annotated[bool, typer.Option(help="With --data: all of it, not a subset.")] = False,
    as_json: Json = False,
) -> None:
    """Train, tune, deploy, ask and report: the whole loop on real handwritten digits, offline.

    Example: quorate demo
    """
    from quorate.cluster import demo as demonstration

    with steps(as_json) as tell:
        report = demonstration.demo(data, full=full, on_step=tell)
    show(report, report.to_dict(), as_json)
