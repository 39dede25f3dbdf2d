"""One column of some rows, before it is known what a model reads: leaves, which of them are missing, a row's shape."""

# R rows, n leaves: R times the sizes of a row

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quorate.deployments.errors import RowsError

Array = NDArray[Any]


@dataclass(frozen=True)
class Place:
    """Where rows stand, for errors: their source, their column where it has a name, and the number of the
    first row."""

    source: str
    column: str
    start: int = 0

    def error(self, row: int, found: str, fix: str) -> RowsError:
        """What is wrong with a row of these; the first row of a source is row 0."""
        where = f"column '{self.column}', row" if self.column else "row"
        return RowsError(self.source, f"{where} {self.start + row}: {found}", fix)

    def whole(self, found: str, fix: str) -> RowsError:
        """What is wrong with all of the column."""
        return RowsError(self.source, f"column '{self.column}' {found}" if self.column else f"it {found}", fix)


@dataclass(frozen=True)
class Column:
    """Rows of one column.

    Attributes:
        values: (n,) leaves in row-major order: numbers, or objects that are str, bytes or Python's own numbers.
        sizes: the shape of a row; () where it is one leaf, -1 where rows have other sizes.
        rows: R, how many there are.
        missing: (n,) bool, which leaves are missing; None where none is.
        kind: what the source calls its type.
        written: values are text because the source has no types, as in .csv.
        shapes: (R, d) of each row, where they differ.
    """

    values: Array
    sizes: tuple[int, ...]
    rows: int
    missing: NDArray[np.bool_] | None = None
    kind: str = ""
    written: bool = False
    shapes: NDArray[np.int64] | None = None

    @property
    def ends(self) -> NDArray[np.int64]:
        """(R,) behind the last leaf of each row."""
        if self.shapes is None:
            return np.arange(1, self.rows + 1) * math.prod(self.sizes)
        return np.asarray(self.shapes.prod(axis=1).cumsum())

    def row_of(self, leaf: int) -> int:
        """The row that a leaf is of."""
        if self.shapes is not None:
            return int(np.searchsorted(self.ends, leaf, side="right"))
        return int(leaf) // max(math.prod(self.sizes), 1)

    def array(self) -> Array:
        """(R, *sizes) of rows of one shape; what is missing is NaN among floats, None among everything else."""
        values = self.values
        if self.missing is not None and self.missing.any():
            if values.dtype.kind == "f":
                values = np.where(self.missing, values.dtype.type("nan"), values)
            else:
                values = values.astype(object)
                values[self.missing] = None
        return values.reshape(self.rows, *self.sizes)


UNEVEN_FIX = (
    "rows of one tensor have one shape: pad them as the model was trained (in a column that a mask or a number of "
    "tokens goes with), send text that the member tokenises itself, or give rows of one length at a time"
)


def even(place: Place, column: Column) -> Column:
    """A column whose rows have one shape.

    Raises:
        RowsError: they have not.
    """
    if column.shapes is None:
        return column
    row = int(np.flatnonzero((column.shapes != column.shapes[0]).any(axis=1))[0])
    found = f"shape {column.shapes[row].tolist()}, and {column.shapes[0].tolist()} before"
    raise place.error(row, found, UNEVEN_FIX)


def of_shapes(values: Array, shapes: NDArray[np.int64], **words: Any) -> Column:
    """A column of rows of these (R, d) shapes."""
    alike = (shapes == shapes[:1]).all(axis=0)
    sizes = tuple(int(size) if same else -1 for size, same in zip(shapes[0], alike, strict=True))
    return Column(values, sizes, len(shapes), shapes=None if alike.all() else shapes, **words)


def joined(place: Place, parts: Sequence[Column]) -> Column:
    """One column of all parts, which follow each other.

    Raises:
        RowsError: a part has rows of another shape.
    """
    if len(parts) == 1:
        return even(place, parts[0])
    start, first = 0, even(place, parts[0])
    for part in parts:
        if part.sizes != first.sizes:
            found = f"shape {list(part.sizes)}, and {list(first.sizes)} before"
            raise place.error(start, found, UNEVEN_FIX)
        start += part.rows
    missing = None
    if any(part.missing is not None for part in parts):
        none = [np.zeros(len(part.values), bool) if part.missing is None else part.missing for part in parts]
        missing = np.concatenate(none)
    return replace(first, values=np.concatenate([part.values for part in parts]), rows=start, missing=missing)
