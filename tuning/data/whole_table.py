"""Labelled rows of a table that no spec describes: every column but the label is an input, every label a class."""

# N rows

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quorate.tuning.data.labelled import Labelled, match_labels
from quorate.tuning.data.tables import read_columns
from quorate.tuning.errors import DataError


def read_whole_table(path: str | Path, label: str = "label") -> Labelled:
    """Read labelled rows from .parquet, .csv, .arrow, .feather or .npz.

    Args:
        path: the file.
        label: name of the label column.

    Returns:
        Rows whose inputs are the other columns, float32: (N, ...) of lists and arrays, (N, 1) of plain numbers.

    Raises:
        DataError: there is no label, or no other column, or one that holds no numbers.
    """
    path = Path(path)
    columns = read_columns(path, text=(label,))
    if label not in columns:
        raise DataError(path.name, f"no column {label!r}", f"it has {', '.join(sorted(columns))}; give --label")
    labels = columns.pop(label)
    if not columns:
        raise DataError(path.name, f"no column beside {label!r}", "give what members are to read")
    classes = class_names(labels)
    inputs = {name: _numbers(path, name, column) for name, column in columns.items()}
    return Labelled(inputs, match_labels(labels, classes, path.name), classes)


def class_names(labels: NDArray[Any]) -> tuple[str, ...]:
    """Each label once, in order: of 3, "3" and 3.0 the name is 3."""
    if labels.dtype == object:
        labels = labels.astype(str)
    if np.issubdtype(labels.dtype, np.floating) and np.isfinite(labels).all() and (labels == labels.round()).all():
        labels = labels.astype(np.int64)
    found = np.unique(labels)
    if found.dtype.kind == "U" and all(name.isdecimal() for name in found.tolist()):
        return tuple(sorted(found.tolist(), key=int))
    return tuple(str(name) for name in found.tolist())


def _numbers(path: Path, name: str, column: NDArray[Any]) -> NDArray[np.float32]:
    try:
        listed = np.stack([np.asarray(row) for row in column]) if column.dtype == object else column
        found = listed.astype(np.float32)
    except (TypeError, ValueError):
        fix = "give numbers (codes of categories will do), or a spec with members that read it"
        raise DataError(path.name, f"column {name!r} holds no numbers of one size", fix) from None
    return np.ascontiguousarray(found[:, None] if found.ndim == 1 else found)
