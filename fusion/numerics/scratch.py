"""Room for the large intermediate results of one thread's fusions, kept from call to call.

Fresh memory of this size comes from the system page by page: for 512,000 float64 that takes twice the time of filling
it.
"""

from __future__ import annotations

import math
import threading
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

# 4 MiB in float64: eight members, 64 rows, 1,000 classes and a little more.
TERMS = 1 << 19

_rooms = threading.local()


def room(shape: tuple[int, ...], dtype: DTypeLike, use: str = "terms") -> NDArray[Any]:
    """An array with anything in it; the next call for this type and use in this thread gives the same memory.

    Not a tensor: one that was made in ``torch.inference_mode`` could not be written on outside.
    """
    size = math.prod(shape)
    if size > TERMS:
        return np.empty(shape, dtype=dtype)
    name = f"{use} {np.dtype(dtype)}"
    if not hasattr(_rooms, name):
        setattr(_rooms, name, np.empty(TERMS, dtype=dtype))
    kept: NDArray[Any] = getattr(_rooms, name)
    return kept[:size].reshape(shape)
