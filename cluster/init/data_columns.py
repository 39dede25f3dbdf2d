"""What a labelled table says of a spec: columns with their types, some rows of them, the classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from quorate.deployments.errors import RowsError
from quorate.deployments.rows import column as columns
from quorate.deployments.rows.column import Place
from quorate.deployments.rows.column_names import check_named
from quorate.deployments.rows.opening import RowsLike, open_rows
from quorate.deployments.rows.reading import Wanted, input_batches
from quorate.deployments.rows.tables.table import UNNAMED
from quorate.deployments.rows.values import own_datatype
from quorate.deployments.rows.written import typed
from quorate.deployments.wire.class_names import class_name

TRIED_ROWS = 64
# More distinct whole numbers than these are values, not classes.
_MOST_CLASSES = 1000


@dataclass(frozen=True)
class Column:
    """What an input could be read from."""

    datatype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Labels:
    """Of all rows.

    Attributes:
        classes: in order; None where labels are values.
    """

    classes: tuple[str, ...] | None


class Data:
    """A table, opened.

    Attributes:
        columns: by name, without the label's.
    """

    def __init__(self, given: RowsLike, label: str):
        """Raises:
        RowsError: it cannot be read, holds no row, or has no such label.
        """
        self._table, self._label = open_rows(given), label
        if self._table.names == (UNNAMED,):
            raise RowsError(self._table.source, "one array has no labels", "give a table, such as .csv or .npz")
        check_named(self._table, [label])
        names = [name for name in self._table.names if name != label]
        first = next(iter(self._table.batches(names)), None)
        if first is None or not names:
            raise RowsError(self._table.source, "no rows" if names else "no column but the label", "give some")
        self.columns = {name: self._described(name, typed(column)) for name, column in first.items()}

    def _described(self, name: str, column: columns.Column) -> Column:
        datatype = own_datatype(column, Place(self._table.source, name))
        gaps = column.missing is not None and column.missing.any()  # whole numbers have none
        return Column("FP32" if gaps and datatype != "BYTES" else datatype, column.sizes)

    def labels(self) -> Labels:
        """Numbers with fractions are values, everything else the names of classes."""
        found: dict[str, None] = {}
        for batch in self._table.batches([self._label]):
            for value in batch[self._label].array().ravel().tolist():
                if value is not None and value == value:
                    found[class_name(value)] = None
        if not found:
            raise RowsError(self._table.source, f"column '{self._label}' holds no label", "label some rows")
        numbers = [_number(word) for word in found]
        if None not in numbers:
            exact = [number for number in numbers if number is not None]
            if len(found) > _MOST_CLASSES or any(number % 1 for number in exact):
                return Labels(None)
            return Labels(tuple(sorted(found, key=float)))
        return Labels(tuple(sorted(found)))

    def rows(self, inputs: Mapping[str, Wanted], columns: Mapping[str, Sequence[str]]) -> dict[str, NDArray[Any]]:
        """(B, *shape) each of the first rows.

        Raises:
            RowsError: columns are not of these types.
        """
        first = next(input_batches(self._table, inputs, {name: tuple(found) for name, found in columns.items()}))
        return {name: array[:TRIED_ROWS] for name, array in first.items()}

    def names(self) -> list[str | None]:
        """Of the first rows the class that the label names; None where it is missing."""
        found: list[str | None] = []
        for batch in self._table.batches([self._label]):
            values = batch[self._label].array().ravel().tolist()
            found += [None if value is None or value != value else class_name(value) for value in values]
            if len(found) >= TRIED_ROWS:
                break
        return found[:TRIED_ROWS]


def _number(word: str) -> float | None:
    try:
        return float(word)
    except ValueError:
        return None
