"""Triton's classification extension: the best classes of each row instead of the values."""

# B rows, C classes

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def top_classes(values: Array, count: int, labels: Sequence[str] | None) -> Array:
    """The best classes of each row as the classification extension writes them, best first.

    Args:
        values: (B, ...).
        labels: of the columns; left out when None or of another number.

    Returns:
        (B, min(count, C)) of ``value:index:label``.
    """
    flat = values.reshape(len(values), -1)
    best = np.argsort(-flat, axis=1, kind="stable")[:, :count]
    named = labels if labels is not None and len(labels) == flat.shape[1] else None
    classes = np.empty(best.shape, dtype=object)
    for (row, place), column in np.ndenumerate(best):
        label = f":{named[column]}" if named is not None else ""
        classes[row, place] = f"{flat[row, column]:f}:{column}{label}".encode()
    return classes
