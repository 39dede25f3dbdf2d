"""What a model file says of its own inputs: ONNX and torch.export files do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from quorate.deployments.spec.model_formats import ONNX, TORCH_EXPORT, format_of
from quorate.deployments.spec.schema import TensorSpec
from quorate.deployments.wire.datatypes import name_of


def own_inputs(path: Path) -> dict[str, TensorSpec]:
    """By name, without the batch dimension; none where the file does not say them, or what reads it is not there."""
    readers = {ONNX: _of_onnx, TORCH_EXPORT: _of_export}
    reader = readers.get(format_of(path.name))
    try:
        return {} if reader is None else {n: TensorSpec.model_validate(t) for n, t in reader(path).items()}
    except Exception:  # whoever loads the model says what is wrong with it
        return {}


def _of_onnx(path: Path) -> dict[str, Any]:
    import onnxruntime

    from quorate.deployments.sources.onnx import datatype_of

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return {node.name: _tensor(datatype_of(node.type), node.shape) for node in session.get_inputs()}


def _of_export(path: Path) -> dict[str, Any]:
    import torch

    from quorate.deployments.sources.pytorch.export_archive import check_archive

    check_archive(path)
    program = torch.export.load(str(path))
    names = set(program.graph_signature.user_inputs)
    nodes = [node for node in program.graph.nodes if node.op == "placeholder" and node.name in names]
    values = {node.name: node.meta["val"] for node in nodes}
    return {
        name: _tensor(name_of(np.dtype(str(value.dtype).removeprefix("torch."))), list(value.shape))
        for name, value in values.items()
    }


def _tensor(datatype: str, shape: list[Any]) -> dict[str, Any]:
    """Sizes that are names or symbols are free."""
    return {"datatype": datatype, "shape": [size if type(size) is int else -1 for size in shape[1:]]}
