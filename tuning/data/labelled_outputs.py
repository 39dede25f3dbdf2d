"""Rows with labels of several outputs, not all of which need have one."""

# N rows, n of them with a label of one output

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quorate.tuning.data.labelled import Labelled
from quorate.tuning.data.mapped_arrays import taken_rows


@dataclass(frozen=True)
class OutputLabels:
    """Labels of one output.

    Attributes:
        labels: (n, ...) as of ``Labelled``.
        rows: (n,) the numbers of the rows that have one, ascending.
        numbered: as of ``Labelled``.
    """

    labels: NDArray[Any]
    rows: NDArray[np.intp]
    numbered: bool = False


@dataclass(frozen=True)
class LabelledOutputs:
    """Rows, and what is true of them by output.

    Attributes:
        inputs: request input name -> (N, ...) array.
        labels: by output.
        classes: by output; none for values.
        groups, times, weights: (N,) as of ``Labelled``.
    """

    inputs: Mapping[str, NDArray[Any]]
    labels: Mapping[str, OutputLabels]
    classes: Mapping[str, tuple[str, ...]]
    groups: NDArray[Any] | None = None
    times: NDArray[Any] | None = None
    weights: NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return len(next(iter(self.inputs.values())))

    def of(self, output: str, inputs: Iterable[str]) -> Labelled:
        """The rows that have a label of this output, with these inputs."""
        given = self.labels[output]
        index: NDArray[Any] | slice = slice(None) if len(given.rows) == len(self) else given.rows

        def at(column: NDArray[Any] | None) -> NDArray[Any] | None:
            return None if column is None else column[index]

        return Labelled(
            {name: taken_rows(self.inputs[name], index) for name in inputs}, given.labels, self.classes[output],
            at(self.groups), at(self.times), at(self.weights), given.numbered,
        )  # fmt: skip
