"""Labelled rows of a table that no spec describes: every column but the label is an input, every label a class."""

# N rows

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from quorate.deployments.errors import RowsError
from quorate.deployments.rows.column_names import check_named
from quorate.deployments.rows.opening import RowsLike, open_rows
from quorate.deployments.rows.reading import Wanted
from quorate.tuning.data.labelled import Labelled, match_labels
from quorate.tuning.data.tables import MEMORY_BYTES, read_parts, reading


def read_whole_table(path: RowsLike, label: str = "label") -> Labelled:
    """Read labelled rows of any kind that ``read_table`` reads.

    Args:
        path: the file, folder or frame.
        label: name of the label column.

    Returns:
        Rows whose inputs are the other columns, float32: (N, ...) of lists and arrays, (N, 1) of plain numbers.

    Raises:
        DataError: there is no label, or no other column, or one that holds no numbers.
    """
    with reading():
        table = open_rows(path)
        check_named(table, [label])
        names = [name for name in table.names if name != label]
        if not names:
            raise RowsError(table.source, f"no column beside '{label}'", "give what members are to read")
        wanted = dict.fromkeys(names, Wanted("FP32", None))
        arrays, others = read_parts(table, wanted, {name: (name,) for name in names}, [label], MEMORY_BYTES)
    labels = others[label].array()
    classes = class_names(labels)
    inputs = {name: array[:, None] if array.ndim == 1 else array for name, array in arrays.items()}
    return Labelled(inputs, match_labels(labels, classes, table.source), classes)


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
