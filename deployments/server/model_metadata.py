"""What is told of a model before it is asked: its inputs and outputs, as the protocol's metadata says them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from quorate.deployments.engine.engine import Engine
from quorate.deployments.engine.revision import Revision
from quorate.deployments.spec.checks.check_task import SPANS, TAGS
from quorate.deployments.spec.schema import TensorSpec
from quorate.deployments.wire.inference import EXAMPLE_SHAPE, VERSION


def model_metadata(engine: Engine, model: str, inputs: Sequence[str]) -> dict[str, Any]:
    """Of the ensemble, or of a member.

    Args:
        inputs: that the model reads.
    """
    spec = engine.revision.spec
    return {
        "name": model,
        "versions": [VERSION],
        "platform": "quorate_ensemble" if model == spec.name else "quorate_member",
        "inputs": [_described(name, spec.inputs[name]) for name in inputs],
        "outputs": _output_tensors(engine, model),
    }


def _output_tensors(engine: Engine, model: str) -> list[dict[str, Any]]:
    """Metadata of all that a model gives."""
    revision = engine.revision
    if revision.views and model == engine.revision.spec.name:
        return [_described_output(engine, view, model) for view in revision.views.values()]
    tensor = _described_output(engine, revision, model)
    _, *more = engine.revision.outputs(model)
    shapes = {TAGS: tensor["shape"][:2], SPANS: [-1]}
    return [tensor, *({"name": name, "datatype": "BYTES", "shape": shapes[name]} for name in more)]


def _described_output(engine: Engine, revision: Revision, model: str) -> dict[str, Any]:
    """Metadata of a model's first output."""
    tensor = _output_tensor(engine, revision, model)
    if (said := revision.describe_output(model)) and tensor["shape"][-1] == len(revision.classes(model)):
        tensor["parameters"] = said
    return tensor


def _dims_of_values(engine: Engine, revision: Revision) -> int:
    """How many dimensions a row of fused values has; 1 of probabilities, and while no replica has said so."""
    names = [name for name in revision.asked if name in engine.revision.spec.members]
    known = (engine.output(name) for name in names if engine.revision.spec.members[name].output == "values")
    return max((len(output[1]) for output in known if output is not None), default=1) or 1


def _output_tensor(engine: Engine, revision: Revision, model: str) -> dict[str, Any]:
    member = engine.revision.spec.members.get(model)
    found = None if member is None else engine.output(model)
    if found is None:  # the fusion's own, or of a member that no replica has run yet
        more = (-1,) * (1 if engine.revision.spec.of_tokens else _dims_of_values(engine, revision) - 1)
        found = "FP32", (*more, len(revision.classes(model)) or -1)
    return {"name": revision.output(model), "datatype": found[0], "shape": [-1, *found[1]]}


def _described(name: str, tensor: TensorSpec) -> dict[str, Any]:
    """An input's metadata; where the spec says with what sizes models were tried, so do its parameters."""
    found: dict[str, Any] = {"name": name, "datatype": tensor.datatype, "shape": [-1, *tensor.shape]}
    if isinstance(tensor.example, tuple):
        found["parameters"] = {EXAMPLE_SHAPE: json.dumps(tensor.example)}
    return found
