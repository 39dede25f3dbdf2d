"""Weighted sums over members: in float64, member after member in the order given, rounded once to float32.

Every number of the answer is added up in that one order, whatever the batch: a row has the same bits alone and among
others. float64 is what lets the shares of 10^4 members still sum to one.
"""

# M members, B batch, C classes

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quorate.fusion.numerics.scratch import TERMS, scratch
from quorate.fusion.numerics.tracing import for_numpy

Array = NDArray[Any]
# Terms that need no memory kept for their sums.
_FEW = 1 << 12


def weighted_sum(weights: Tensor, terms: Tensor) -> Tensor:
    """Sum of w_m t_m over members.

    Args:
        weights: (M,) or (M, B) float64, no gradient.
        terms: (M, B, C) float32 or float64, finite.

    Returns:
        (B, C) float64, with the gradient of the sum.
    """
    if for_numpy(terms):
        return torch.from_numpy(_sum(weights.numpy(), terms.detach().numpy()))
    return ((weights.unsqueeze(1) if weights.dim() == 1 else weights).unsqueeze(-1) * terms.double()).sum(dim=0)


def weighted_sum_of_arrays(weights: Array, terms: Array) -> NDArray[np.float32]:
    """``weighted_sum`` of NumPy's arrays, rounded to float32; what overflows becomes infinity.

    In blocks: the float64 sums of one stay in scratch memory until they are rounded.
    """
    num_members, batch, classes = terms.shape
    if terms.size <= _FEW:
        with np.errstate(over="ignore", invalid="ignore"):
            return _sum(weights, terms).astype(np.float32)
    total = np.empty((batch, classes), dtype=np.float32)
    step = max(1, TERMS // (num_members * classes))
    with np.errstate(over="ignore", invalid="ignore"):
        for start in range(0, batch, step):
            rows = slice(start, start + step)
            part = terms[:, rows]
            wide = scratch(part.shape[1:], np.float64, "sums")
            total[rows] = _sum(weights if weights.ndim == 1 else weights[:, rows], part, wide)
    return total


def _sum(weights: Array, terms: Array, out: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
    """(M,) or (M, B) and (M, B, C) to (B, C).

    einsum converts to float64 in its own buffer, which takes half the time of a converted copy and BLAS on it. Its
    inner loop runs along the dimension with the smallest stride: this must not be that of the members.
    """
    if terms.shape[1:] == (1, 1):
        return _sum(weights, np.repeat(terms, 2, axis=2))[:, :1]
    if not terms.strides[0] >= terms.strides[1] >= terms.strides[2]:
        terms = np.ascontiguousarray(terms)
    formula = "m,mbc->bc" if weights.ndim == 1 else "mb,mbc->bc"
    weights = np.ascontiguousarray(weights)
    total: NDArray[np.float64] = np.einsum(formula, weights, terms, out=out, dtype=np.float64, casting="same_kind")
    return total
