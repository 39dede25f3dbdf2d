"""Members of one group that are of one architecture: their rows are read once, and run in one pass where that pays."""

# K members, B rows

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from quorate.deployments.members.packing.architecture import state_of
from quorate.deployments.members.packing.choice import Choice, same_bits
from quorate.deployments.members.packing.cuda_graphs import Graphs, Stream, Way, sizes_up_to
from quorate.deployments.members.packing.stacking import Stack, StackError
from quorate.deployments.members.predictor import Predictor
from quorate.deployments.sources.model import Model
from quorate.deployments.sources.outputs import as_array

Array = NDArray[Any]
# How far a batched pass may be from one by one where bits may differ: a share of the largest number of the output, by
# the least exact type that is computed in.
_CLOSE = {torch.float64: 1e-9, torch.float32: 1e-4, torch.bfloat16: 5e-2, torch.float16: 1e-2}


class StackedMembers:
    """K members of one architecture that read the same.

    Networks that are the same to the bit, of one checkpoint, are computed once.

    Attributes:
        places: of the members in their group.
        max_rows: that they take at once.
        how: of what the passes are made, in words.
        read_alike: fusions read what all of them give in the same way.
    """

    def __init__(self, members: Mapping[int, Predictor], stream: Stream | None):
        """
        Args:
            members: by their places.
            stream: of the GPU that they are on; None on the CPU.

        Raises:
            StackError: they do not run as one; nothing has changed but where their parameters lie.
        """
        self.places = tuple(members)
        self._models = [member.model for member in members.values()]
        self.max_rows = min(member.max_batch_size for member in members.values())
        first = next(iter(members.values()))
        self._exact = first.spec.stack is not True
        self.read_alike = all(first.reads_as(member) for member in members.values())
        self._different, self._column = _distinct(self._models)
        self._close = _close_enough([network_of(self._different[0])])
        self._stack: Stack | None = None
        self._graphs: Graphs | None = None
        with torch.inference_mode():
            self._warm_up(first.example(rows=2) or {}, stream)

    def run(self, inputs: Mapping[str, Array]) -> list[Array]:
        """The output of each member, (B, ...), as ``Model.predict`` gives it.

        Args:
            inputs: (B, *shape) each.

        Raises:
            Exception: whatever the first of the members raises that does.
        """
        if torch.is_inference_mode_enabled():
            arrays = self._inferred(inputs)
        else:
            with torch.inference_mode():
                arrays = self._inferred(inputs)
        if len(arrays) == len(self._column):
            return arrays
        return [arrays[column] if first else arrays[column].copy() for column, first in self._column]

    def _inferred(self, inputs: Mapping[str, Array]) -> list[Array]:
        """The output of each network."""
        rows = self._models[0].host_tensors(inputs)
        size = self._graphs.size_for(rows) if self._graphs else None
        if size is not None and self._graphs is not None:
            return [np.array(as_array(tensor)[0]) for tensor in self._graphs(rows, size).unbind()]
        device = self._models[0].device
        there = rows if device.type == "cpu" else [row.to(device, non_blocking=True) for row in rows]
        return [as_array(tensor)[0] for tensor in self._run(there)]

    def _warm_up(self, rows: Mapping[str, Array], stream: Stream | None) -> None:
        example = _varied(self._models[0].host_tensors(rows))
        tensors = [tensor.to(self._models[0].device) for tensor in example]
        self._run: Callable[[Sequence[Tensor]], Sequence[Tensor]] = self._one_by_one
        why = ""
        try:
            self._stack = self._tried(tensors)
        except StackError as error:
            why = str(error)
        if self._stack is not None:
            batched = _unbound(self._stack)
            self._run = Choice(self._one_by_one, batched) if self._exact else batched
        if stream is not None:
            self._graphs = self._recorded(stream, example)
        if why and self._graphs is None:
            raise StackError(why)
        self.how = self._described(tensors) + (f"; {why}" if why else "")

    def _tried(self, tensors: Sequence[Tensor]) -> Stack | None:
        """The networks as one, where there are several.

        Raises:
            StackError: they do not run so, or give something else.
        """
        if len(self._different) == 1:
            return None
        stack = Stack([network_of(model) for model in self._different], self._different[0].call_network)
        plain = self._one_by_one(tensors)
        for one, other in zip(stack.try_out(tensors), plain, strict=True):
            if one.shape != other.shape or one.dtype != other.dtype or not self._close(one, other):
                raise StackError("the batched pass gives other numbers than one by one")
        return stack

    def _recorded(self, stream: Stream, example: Sequence[Tensor]) -> Graphs | None:
        """Passes for a GPU to replay; None where something in the networks cannot be recorded."""
        ways: list[Way] = [lambda tensors: torch.stack(self._one_by_one(tensors))]
        if self._stack is not None:
            ways.append(self._stack)
        sizes = sizes_up_to(self.max_rows)
        try:
            agree = same_bits if self._exact else self._close
            found = Graphs(stream, ways, example, sizes, agree, padded=not self._exact)
        except RuntimeError:  # what waits for the GPU, or allocates by itself, cannot be recorded
            return None
        return found if found.sizes else None

    def _one_by_one(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        return [model.run_network(*tensors) for model in self._different]

    def _described(self, tensors: Sequence[Tensor]) -> str:
        """What became of it, at one row and at as many as there may be."""
        same = len(self._models) - len(self._different)
        told = [f"{same + 1} of one checkpoint are computed once"] if same else []
        if self._graphs is not None:
            ways = ["batched" if way else "one by one" for way in self._graphs.way.values()]
            sizes = ", ".join(map(str, self._graphs.sizes))
            told.append(f"recorded for {sizes} rows, {ways.count('batched')} of these batched")
        elif isinstance(self._run, Choice):
            told += [_settled(self._run, tensors, rows) for rows in (1, self.max_rows)]
        elif self._stack is not None:
            told.append("batched")
        return "; ".join(told)


def _unbound(stack: Stack) -> Callable[[Sequence[Tensor]], Sequence[Tensor]]:
    return lambda tensors: stack(tensors).unbind()


def _settled(choice: Choice, tensors: Sequence[Tensor], count: int) -> str:
    rows = [tensor[torch.arange(count, device=tensor.device) % len(tensor)] for tensor in tensors]
    way = choice.settle(rows)
    return f"{way} at {count} {'row' if count == 1 else 'rows'}"


def network_of(model: Model) -> nn.Module:
    """Of a member that has been found to be one."""
    assert model.network is not None
    return model.network


def _distinct(models: Sequence[Model]) -> tuple[list[Model], list[tuple[int, bool]]]:
    """Those with numbers of their own, and of each model which of them has its numbers, and whether it is the first."""
    different: list[Model] = []
    columns = []
    for model in models:
        known = next((at for at, other in enumerate(different) if _same_numbers(model, other)), None)
        columns.append((len(different) if known is None else known, known is None))
        if known is None:
            different.append(model)
    return different, columns


def _same_numbers(one: Model, other: Model) -> bool:
    ours, theirs = state_of(network_of(one)), state_of(network_of(other))
    return all(t.data_ptr() == theirs[name].data_ptr() or same_bits(t, theirs[name]) for name, t in ours.items())


def _varied(rows: Sequence[Tensor]) -> list[Tensor]:
    """Rows of which every number counts: zeros would show no difference in how they are added up."""
    random = torch.Generator().manual_seed(0)
    return [
        row + torch.randn(row.shape, generator=random).to(row.dtype) if row.dtype.is_floating_point else row
        for row in rows
    ]


def _close_enough(networks: Sequence[nn.Module]) -> Callable[[Tensor, Tensor], bool]:
    """What says whether two outputs of networks are the same but for rounding."""
    types = {tensor.dtype for network in networks for tensor in state_of(network).values()}

    def close(one: Tensor, other: Tensor) -> bool:
        if not one.dtype.is_floating_point:
            return torch.equal(one, other)
        share = max(_CLOSE[dtype] for dtype in types | {one.dtype} if dtype in _CLOSE)
        atol = share * max(other.double().abs().max().item(), 1.0)
        return torch.allclose(one.double(), other.double(), rtol=0, atol=atol, equal_nan=True)

    return close
