"""Request inputs as rules read them that choose members by row: one row flattened to numbers."""

# N rows, D numbers of an input

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Wider ones are pictures and sounds, of which the distance between two rows says little, and costs much.
MOST_NUMBERS = 1024


def flat_input(array: NDArray[Any]) -> NDArray[np.float32]:
    """(N, ...) to (N, D)."""
    return array.reshape(len(array), -1).astype(np.float32)


def flat_inputs(inputs: Mapping[str, NDArray[Any]], rows: NDArray[np.intp]) -> dict[str, NDArray[np.float32]]:
    """(n, D) of some rows of those inputs that are numbers, not too many of them, and all finite."""
    found = {}
    for name, array in inputs.items():
        if array.dtype.kind in "fiub" and math.prod(array.shape[1:]) <= MOST_NUMBERS:
            flat = flat_input(array[rows])
            if np.isfinite(flat).all():
                found[name] = flat
    return found
