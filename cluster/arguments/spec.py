"""What may stand for an ensemble's spec in a call, and what its relative paths start from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from quorate.deployments.spec.check_files import check_files
from quorate.deployments.spec.check_fusions import check_learned
from quorate.deployments.spec.ensemble import EnsembleSpec
from quorate.deployments.spec.files import load_spec, parse_spec

SpecLike = str | Path | EnsembleSpec | Mapping[str, Any]


def spec_and_folder(spec: SpecLike, folder: str | Path | None, untrained: bool = False) -> tuple[EnsembleSpec, Path]:
    """The spec, checked with the files it names, and the folder that these are found from.

    Args:
        spec: path of a spec file, a spec, or what a spec file holds.
        folder: what relative paths start from; that of the spec file, or the current one, when None.
        untrained: learned rules need no state yet.

    Raises:
        SpecError: the first mistake, with its field and its fix.
    """
    if isinstance(spec, str | Path):
        path = Path(spec)
        found, place = load_spec(path), path.parent if folder is None else Path(folder)
    else:
        place = Path("." if folder is None else folder)
        found = spec if isinstance(spec, EnsembleSpec) else parse_spec(spec)
        check_files(found, place)
    if not untrained:
        check_learned(found)
    return found, place
