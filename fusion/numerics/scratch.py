"""Memory for the large intermediate results of one thread's fusions, kept from call to call.

Fresh memory of this size comes from the system page by page: for 512,000 float64 that takes twice the time of filling
it.
"""

# M members, B batch, C classes, K numbers a row of the answer

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import DTypeLike, NDArray
from torch import Tensor

from quorate.fusion.numerics.tracing import for_numpy

# 4 MiB in float64: eight members, 64 rows, 1,000 classes and a little more.
TERMS = 1 << 19


class _Kept(threading.local):
    """Arrays of one thread, by use and type."""

    def __init__(self) -> None:
        self.arrays: dict[tuple[str, Any], NDArray[Any]] = {}


_kept = _Kept()


def scratch(shape: tuple[int, ...], dtype: DTypeLike, use: str = "terms") -> NDArray[Any]:
    """An array with anything in it; the next call for this type and use in this thread gives the same memory.

    Not a tensor: one that was made in ``torch.inference_mode`` could not be written on outside.
    """
    size = math.prod(shape)
    if size > TERMS:
        return np.empty(shape, dtype=dtype)
    arrays = _kept.arrays
    kept = arrays.get((use, dtype))
    if kept is None:
        kept = arrays[use, dtype] = np.empty(TERMS, dtype=dtype)
    return kept[:size].reshape(shape)


def widened(terms: Tensor, use: str = "terms") -> Tensor:
    """In float64; where numpy may compute, in scratch memory, good until the next call for this use."""
    if not for_numpy(terms):
        return terms.double()
    return torch.from_numpy(scratch(tuple(terms.shape), np.float64, use)).copy_(terms)


def in_blocks(formula: Callable[[slice], Tensor], outputs: Tensor) -> Tensor:
    """Compute a formula of rows in blocks whose intermediate results fit scratch memory.

    Args:
        formula: rows to (rows, K); it slices what it reads.
        outputs: (M, B, C), what it reads.

    Returns:
        (B, K).
    """
    num_members, batch, classes = outputs.shape
    step = max(1, TERMS // (num_members * classes)) if for_numpy(outputs) else batch
    if step >= batch:
        return formula(slice(None))
    return torch.cat([formula(slice(start, start + step)) for start in range(0, batch, step)])
