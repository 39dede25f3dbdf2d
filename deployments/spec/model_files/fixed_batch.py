"""How many rows a program that was exported for a fixed number of them takes at once."""

from __future__ import annotations

from pathlib import Path

from quorate.deployments.spec.model_files.export_files import read_export
from quorate.deployments.spec.model_files.onnx_files import OnnxFileError, read_onnx


def fixed_batch(path: Path) -> int | None:
    """The first size of all inputs of an ``.onnx`` or ``.pt2`` file; None where it is free, or cannot be read."""
    try:
        inputs = (read_onnx(path).inputs if path.suffix == ".onnx" else read_export(path)) or {}
    except (OnnxFileError, OSError):
        return None
    first = {one.sizes[0] if one.sizes else None for one in inputs.values()}
    return first.pop() if len(first) == 1 else None
