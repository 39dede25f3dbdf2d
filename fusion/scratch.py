"""Room for the large intermediate results of one thread's fusions, kept from call to call.

Fresh memory of this size comes from the system page by page: for 512,000 float64 that takes twice the time of filling
it.
"""

from __future__ import annotations

import threading

import torch
from torch import Tensor

# 4 MiB in float64: eight members, 64 rows, 1,000 classes and a little more.
TERMS = 1 << 19

_rooms = threading.local()


def room(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """A tensor on the CPU with anything in it; the next call for this dtype in this thread gives the same memory."""
    size = 1
    for length in shape:
        size *= length
    if size > TERMS:
        return torch.empty(shape, dtype=dtype)
    name = str(dtype)
    if not hasattr(_rooms, name):
        setattr(_rooms, name, torch.empty(TERMS, dtype=dtype))
    kept: Tensor = getattr(_rooms, name)
    return kept[:size].view(shape)
