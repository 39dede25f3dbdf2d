"""Arrays too large for memory: mapped from files without a name."""

from __future__ import annotations

import tempfile
from typing import Any

import numpy as np
from numpy.typing import NDArray

_COPIED_BYTES = 16 << 20


def mapped_array(shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """In a file without a name: it goes with the last array that is mapped from it."""
    with tempfile.TemporaryFile(prefix="quorate-rows-") as file:
        return np.memmap(file, dtype=dtype, mode="w+", shape=shape)


def taken_rows(array: NDArray[Any], index: NDArray[Any] | slice) -> NDArray[Any]:
    """Some rows; what was too large for memory is copied to another file."""
    if isinstance(index, slice) or not isinstance(array, np.memmap):
        return array[index]
    rows = np.arange(len(array))[index]
    taken = mapped_array((len(rows), *array.shape[1:]), array.dtype)
    size = max(1, _COPIED_BYTES // max(1, array[:1].nbytes))
    for at in range(0, len(rows), size):
        taken[at : at + size] = array[rows[at : at + size]]
    return taken
