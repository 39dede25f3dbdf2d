"""How many rows a program that was exported for a fixed number of them takes at once."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

from quorate.deployments.spec.model_files.onnx_files import OnnxFileError, read_onnx


def fixed_batch(path: Path) -> int | None:
    """The first size of each input of an ``.onnx`` or ``.pt2`` file; None where it is free, or cannot be read."""
    try:
        onnx = path.suffix == ".onnx"
        sizes = [one.sizes or () for one in read_onnx(path).inputs.values()] if onnx else _sizes(path)
    except (OnnxFileError, zipfile.BadZipFile, OSError, StopIteration, KeyError, ValueError):
        return None
    first = {shape[0] if shape else None for shape in sizes}
    return first.pop() if len(first) == 1 else None


def _sizes(path: Path) -> list[tuple[int | None, ...]]:
    """Of each input of a program of torch.export, None where one is free."""
    with zipfile.ZipFile(path) as archive:
        name = next(name for name in archive.namelist() if name.endswith("models/model.json"))
        graph: dict[str, Any] = json.loads(archive.read(name))["graph_module"]
    specs = (one["user_input"]["arg"] for one in graph["signature"]["input_specs"] if "user_input" in one)
    tensors = [graph["graph"]["tensor_values"][arg["as_tensor"]["name"]] for arg in specs if "as_tensor" in arg]
    return [tuple(size.get("as_int") for size in tensor["sizes"]) for tensor in tensors]
