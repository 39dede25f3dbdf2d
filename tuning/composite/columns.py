"""What a composite reads of a set of rows: request inputs, and what members outside of it say, run once."""

# N rows, C classes

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quorate.deployments.engine.offline_graph import OfflineGraph
from quorate.deployments.spec.ensemble import EnsembleSpec
from quorate.tuning.composite.trained_part import TrainedPart
from quorate.tuning.data.labelled import Labelled
from quorate.tuning.errors import PredictionError


@dataclass(frozen=True)
class Columns:
    """Rows as tensors.

    Attributes:
        values: (N, ...) by request input and by member outside.
        there: (N,) bool by the same names.
        labels: (N,) class numbers, (N, C) of 0 and 1, or (N, K) values; None where there are none.
        teacher: (N, C) what a teacher says of them; None where there is none.
    """

    values: Mapping[str, Tensor]
    there: Mapping[str, Tensor]
    labels: Tensor | None = None
    teacher: Tensor | None = None

    def __len__(self) -> int:
        return len(next(iter(self.values.values())))

    def rows(self, index: Tensor | slice) -> Columns:
        """Some of them, by number."""
        return Columns(
            {name: column[index] for name, column in self.values.items()},
            {name: column[index] for name, column in self.there.items()},
            None if self.labels is None else self.labels[index],
            None if self.teacher is None else self.teacher[index],
        )

    def parts(self, rows: int) -> Iterator[Columns]:
        """So many rows at a time."""
        for start in range(0, len(self), rows):
            yield self.rows(slice(start, start + rows))

    def to(self, device: str) -> Columns:
        """On another device."""
        return Columns(
            {name: column.to(device) for name, column in self.values.items()},
            {name: column.to(device) for name, column in self.there.items()},
            None if self.labels is None else self.labels.to(device),
            None if self.teacher is None else self.teacher.to(device),
        )

    def taught(self, teacher: Tensor) -> Columns:
        return replace(self, teacher=teacher)


def columns_of(spec: EnsembleSpec, folder: Path, part: TrainedPart, inputs: Mapping[str, NDArray[Any]]) -> Columns:
    """Run the members outside.

    Args:
        folder: what the spec's paths start from.
        inputs: (N, *shape) each request input.

    Raises:
        MemberLoadError: a member cannot be loaded.
        PredictionError: it fails on every row.
    """
    graph, rows = OfflineGraph(spec, folder, inputs), len(next(iter(inputs.values())))
    read = {source for name in part.inside if name in spec.members for source in spec.members[name].inputs}
    values = {name: _tensor(inputs[name]) for name in spec.inputs if name in read}
    there = {name: torch.ones(rows, dtype=torch.bool) for name in values}
    for name in part.outside:
        node = graph.node(name)
        if not node.present.any():
            raise PredictionError(f"members.{name}", "every row failed", "correct the member")
        values[name], there[name] = _tensor(node.raw), torch.from_numpy(node.present)
    return Columns(values, there)


def labelled_columns(spec: EnsembleSpec, folder: Path, part: TrainedPart, data: Labelled) -> Columns:
    """The same with the rows' labels; values are (N, K)."""
    labels = torch.from_numpy(np.ascontiguousarray(data.labels))
    if not data.classes:
        labels = labels.reshape(len(labels), -1)
    return replace(columns_of(spec, folder, part, data.inputs), labels=labels)


def _tensor(array: NDArray[Any]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array))
