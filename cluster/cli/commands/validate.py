from __future__ import annotations

from quorate.cluster.cli.options import Json, Spec
from quorate.cluster.cli.tables import show


def validate(spec: Spec, as_json: Json = False) -> None:
    """Check a spec, its files and its fusion, without starting anything.

    Example: quorate validate digits.yaml
    """
    from quorate.cluster.operations import validate as operation

    done = operation.validate(spec)
    show(done, done.to_dict(), as_json)
