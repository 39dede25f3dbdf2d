"""What a spec's files cost without need: said beside a plan, a deployment or a validation, and refused by none."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from quorate.deployments.spec.ensemble import EnsembleSpec
from quorate.deployments.spec.model_formats import ONNX, TORCH_EXPORT, format_of, model_path
from quorate.deployments.spec.onnx_files import OnnxFileError, read_onnx

_FIXES = {
    ONNX.name: "export it with a dynamic first dimension (torch.onnx.export's dynamic_shapes)",
    TORCH_EXPORT.name: "export it with a dynamic first dimension (dynamic_shapes={'x': {0: torch.export.Dim.AUTO}}, "
    "and an example of two rows)",
}


def notes(spec: EnsembleSpec, folder: Path) -> tuple[str, ...]:
    """Sentences about a spec whose files are there, without importing what would run them."""
    return tuple(_notes(spec, folder))


def _notes(spec: EnsembleSpec, folder: Path) -> Iterator[str]:
    for name, member in spec.members.items():
        path, known = model_path(member.model), format_of(member.model).name
        rows = fixed_batch(folder / path) if path is not None and known in _FIXES else None
        if rows is not None:
            each = "a row" if rows == 1 else f"{rows} rows"
            yield (
                f"members.{name}: {path} was exported for {each} at a time, and is run so; to have more of them in a "
                f"batch, {_FIXES[known]}"
            )


def fixed_batch(path: Path) -> int | None:
    """How many rows an exported program takes at once; None for one that takes any number, or cannot be read."""
    try:
        sizes = list(read_onnx(path).inputs.values()) if path.suffix == ".onnx" else _sizes(path)
    except (OnnxFileError, zipfile.BadZipFile, OSError, KeyError, ValueError):
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
