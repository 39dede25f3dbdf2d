"""Rows without labels, as a model's metadata or a spec describes what it reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quorate.deployments.rows.reading import Wanted
from quorate.deployments.rows.tables.frames import is_frame

if TYPE_CHECKING:
    from quorate.deployments.spec.ensemble import EnsembleSpec


def wanted_by(metadata: Sequence[Mapping[str, Any]]) -> dict[str, Wanted]:
    """What a model reads, of the inputs of its metadata."""
    return {item["name"]: Wanted(item["datatype"], tuple(item["shape"][1:])) for item in metadata}


def wanted_of(spec: EnsembleSpec) -> dict[str, Wanted]:
    """What an ensemble reads."""
    return {name: Wanted(tensor.datatype, tensor.shape) for name, tensor in spec.inputs.items()}


def is_read(rows: Any) -> bool:
    """Whether rows are a file or a frame, which are read by name and value; arrays by name are inputs as they are."""
    return isinstance(rows, str | Path) or is_frame(rows)
