from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from quorate.cluster.cli.options import Json
from quorate.cluster.cli.tables import show


def replay(
    record: Annotated[
        str, typer.Argument(metavar="RECORD", help="Folder or URI of recorded answers.", show_default=False)
    ],
    spec: Annotated[
        Path | None,
        typer.Option(help="Whose fusion is to answer; each answer's own revision without it.", show_default=False),
    ] = None,
    online: Annotated[
        bool, typer.Option("--online", help="Learn weights from the labels as they came, and say what they answer.")
    ] = False,
    drift: Annotated[bool, typer.Option("--drift", help="Say which alarms of drift there would have been.")] = False,
    as_json: Json = False,
) -> None:
    """Compute recorded answers again, or say what another fusion would have answered.

    Example: quorate replay /var/lib/quorate/digits --spec runs/digits/spec.yaml
    """
    from quorate.cluster.operations.learning.replay import replay as operation

    found = operation(record, spec, online=online, drift=drift)
    show(found, found.to_dict(), as_json)
