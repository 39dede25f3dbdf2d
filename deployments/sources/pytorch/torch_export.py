"""Programs that torch.export has saved, ``.pt2``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from quorate.deployments.sources.model import Model
from quorate.deployments.sources.pytorch.export_archive import UnsafeArchiveError, check_archive
from quorate.deployments.sources.request import LoadRequest


def load(request: LoadRequest) -> Model:
    """Load the program of a file that holds no pickle."""
    path = request.path
    try:
        check_archive(path)
    except UnsafeArchiveError as error:
        raise request.error(
            f"{path.name} is no torch.export program that may be loaded: {error}",
            "save it again, with torch.export.save",
        ) from None
    try:
        program = torch.export.load(str(path))
    except Exception as error:  # torch raises whatever its zip and flatbuffer readers raise
        raise request.error(f"{path.name} is no torch.export program: {error}", "save it again") from None
    if request.device.type != "cpu":
        from torch.export.passes import move_to_device_pass

        program = move_to_device_pass(program, request.device)
    module: nn.Module = program.module()
    reads, names = _reads(program), request.preprocessing.names
    by_name = request.preprocessing.serves(reads)
    if not by_name and (len(reads) != len(names) or request.spec.input_names):
        listed = ", ".join(f"{name} {list(value.shape)}" for name, value in reads.items())
        found = f"{path.name} reads {listed}, and the member {', '.join(names)}"
        raise request.error(found, "give the member as many inputs, in the program's order")
    dtypes = [value.dtype for value in reads.values()]
    if by_name and tuple(reads) != names:
        module = _ByName(module, [names.index(name) for name in reads])
        dtypes = [reads[name].dtype if name in reads else torch.int64 for name in names]
    first = [value.shape[0] if value.ndim else None for value in reads.values()]
    fixed = all(isinstance(size, int) and size == first[0] for size in first)  # others are symbols
    return request.model(module, tensors=True, dtypes=dtypes, batch=first[0] if fixed else None)


class _ByName(nn.Module):
    """A program whose inputs come in another order."""

    def __init__(self, program: nn.Module, order: Sequence[int]):
        super().__init__()
        self._program, self._order = program, order

    def forward(self, *tensors: torch.Tensor) -> Any:
        return self._program(*(tensors[place] for place in self._order))


def _reads(program: torch.export.ExportedProgram) -> dict[str, torch.Tensor]:
    """The program's own inputs by name: fake tensors, whose sizes are numbers where they were exported fixed."""
    inputs = set(program.graph_signature.user_inputs)
    nodes = (node for node in program.graph.nodes if node.op == "placeholder" and node.name in inputs)
    return {node.name: node.meta["val"] for node in nodes if isinstance(node.meta.get("val"), torch.Tensor)}
