from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from quorate.cluster.cli.options import Json
from quorate.cluster.cli.tables import show


def dashboards(
    out: Annotated[Path, typer.Option(help="The folder to write to.")] = Path("dashboards"), as_json: Json = False
) -> None:
    """Write boards for Grafana, and alerts and recording rules for Prometheus.

    Example: quorate dashboards --out monitoring
    """
    from quorate.cluster.operations.exports import dashboards as operation

    found = operation.dashboards(out)
    show(found, found.to_dict(), as_json)
