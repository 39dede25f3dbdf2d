"""Columns beside inputs and labels: what rows belong together by, are ordered by, and count."""

# N rows

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quorate.tuning.errors import DataError

Columns = Mapping[str, NDArray[Any]]


def numbers_of(path: Path, name: str, columns: Columns) -> NDArray[np.float64]:
    """A column of one number a row; text that reads as numbers counts.

    Raises:
        DataError: it is not that.
    """
    column = columns[name]
    if column.ndim == 1 and column.dtype.kind in "OU":
        try:
            return column.astype(np.float64)
        except (TypeError, ValueError):
            pass
    if column.ndim != 1 or column.dtype.kind not in "fiub":
        raise DataError(path.name, f"column {name!r} holds {_kind(column)}", "give one number a row")
    return column.astype(np.float64)


def side_column(path: Path, name: str, columns: Columns) -> NDArray[Any] | None:
    """A column without gaps that can be sorted; None where there is none.

    Raises:
        DataError: it has gaps.
    """
    column = columns.get(name)
    if column is None:
        return None
    if column.dtype == object:
        if any(value is None for value in column):
            raise DataError(path.name, f"column {name!r} has empty rows", "give each row one")
        column = column.astype(str)
    if column.ndim != 1 or (column.dtype.kind == "f" and not np.isfinite(column).all()):
        raise DataError(path.name, f"column {name!r} holds {_kind(column)}", "give each row one")
    return column


def weights_of(path: Path, name: str, columns: Columns) -> NDArray[np.float64] | None:
    """A column of numbers >= 0; None where there is none.

    Raises:
        DataError: it holds something else.
    """
    if name not in columns:
        return None
    weights = numbers_of(path, name, columns)
    if not np.isfinite(weights).all() or weights.min() < 0 or weights.max() == 0:
        raise DataError(path.name, f"column {name!r} holds {_kind(weights)}", "give numbers >= 0, some above 0")
    return weights


def _kind(column: NDArray[Any]) -> str:
    if column.ndim != 1:
        return f"rows of shape {list(column.shape[1:])}"
    if column.dtype.kind in "fiub":
        return f"numbers from {column.min()} to {column.max()}"
    return f"{type(column[0]).__name__} such as {column[0]!r}" if len(column) else "no rows"
