"""Formulas over members that no order of members can change by a bit.

A formula is computed in float64 in whatever order is fastest and rounded once to float32 (see ``rounding``). numpy does
the summing and rounding on a CPU: on these shapes it takes a third of torch's time, and a tenth on small ones.
"""

# M members, B batch, C classes, K numbers a row of the answer

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from quorate.fusion.numerics.rounding import UNIT, Array, round_once, shorten, with_slope
from quorate.fusion.numerics.scratch import TERMS, room
from quorate.fusion.numerics.sorting import ranked
from quorate.fusion.numerics.tracing import tracing

Rows = slice | Tensor
Formula = Callable[[Rows, bool], tuple[Tensor, float | Tensor]]
"""Rows, and whether to rank terms before a reduction, to (rows, K) float64 and the error that ``round_once`` reads."""

EVERY = slice(None)
# Fewer terms than these are sooner in fresh memory than in scratch room.
_FEW = 1 << 12


def order_free(formula: Formula, outputs: Tensor) -> Tensor:
    """Compute a formula, the same bits for every order of members.

    Args:
        formula: see ``Formula``; it slices what it reads by rows.
        outputs: (M, B, C), what it reads: says how many rows there are, where, and whether they want a gradient.

    Returns:
        (B, K) float32, with the gradient of the formula.
    """
    if tracing() or outputs.device.type != "cpu":
        return shorten(formula(EVERY, True)[0])
    with torch.no_grad(), np.errstate(over="ignore", under="ignore", invalid="ignore"):
        num_members, batch, classes = outputs.shape
        step = max(1, TERMS // max(num_members * classes, 1))
        value = torch.cat([_rounded(formula, start, start + step) for start in range(0, batch, step)])
    return value if in_place(outputs) else with_slope(value, formula(EVERY, False)[0])


def _rounded(formula: Formula, start: int, stop: int) -> Tensor:
    def again(rows: Array) -> Array:
        return formula(torch.from_numpy(rows + start), True)[0].numpy()

    values, error = formula(slice(start, stop), False)
    bound = error if isinstance(error, float) else error.numpy()
    return torch.from_numpy(round_once(values.numpy(), bound, again))


def weighted_sum(weights: Tensor, terms: Tensor) -> Tensor:
    """Sum of w_m t_m over members.

    Args:
        weights: (M,) or (M, B) float64, >= 0, no gradient.
        terms: (M, B, C) float32 or float64, finite.

    Returns:
        (B, C) float32, rounded once from float64, with the gradient of the sum.
    """
    if tracing() or terms.device.type != "cpu":
        return shorten(sum_members(weights, terms, True))
    value = torch.from_numpy(weighted_sum_of_arrays(weights.numpy(), terms.detach().numpy()))
    return value if in_place(terms) else with_slope(value, sum_members(weights, terms, False))


def weighted_sum_of_arrays(weights: Array, terms: Array) -> Array:
    """``weighted_sum`` of NumPy's arrays, without a gradient."""
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        return _in_blocks(weights, terms)


def _in_blocks(weights: Array, terms: Array) -> Array:
    if terms.size <= TERMS:
        return _rounded_sum(weights, terms)
    num_members, batch, classes = terms.shape
    columns = min(classes, max(1, TERMS // num_members))
    rows = max(1, TERMS // (num_members * columns))
    total = np.empty((batch, classes), dtype=np.float32)
    for row in range(0, batch, rows):
        some = slice(row, row + rows)
        shares = weights if weights.ndim == 1 else weights[:, some]
        for column in range(0, classes, columns):
            part = slice(column, column + columns)
            total[some, part] = _rounded_sum(shares, terms[:, some, part])
    return total


def _rounded_sum(weights: Array, terms: Array) -> Array:
    if terms.dtype == np.float64:
        wide = terms
    elif terms.size < _FEW:
        wide = terms.astype(np.float64)
    else:
        wide = room(terms.shape, np.float64)
        np.copyto(wide, terms)
    total = _sum(weights, wide)
    error: float | Array = (2 * len(terms) + 4) * UNIT
    if not (terms.min() >= 0 or terms.max() <= 0):
        error = error * _sum(weights, np.abs(wide, out=None if wide is terms else wide))

    def again(rows: Array) -> Array:
        shares = torch.from_numpy(weights if weights.ndim == 1 else weights[:, rows])
        return sum_members(shares, torch.from_numpy(terms[:, rows]), True).numpy()

    return round_once(total, error, again)


def _sum(weights: Array, wide: Array) -> Array:
    """(M,) or (M, B) and (M, B, C) float64 to (B, C), in any order."""
    flat = wide.reshape(len(wide), -1)
    total: Array
    total = np.dot(weights, flat) if weights.ndim == 1 else np.matmul(weights.T[:, None, :], wide.transpose(1, 0, 2))
    return total.reshape(wide.shape[1:])


def sum_members(weights: Tensor, terms: Tensor, rank: bool) -> Tensor:
    """Sum of w_m t_m over members in float64, at most (M + 1) units off the sum of magnitudes.

    Args:
        weights: (M,) or (M, B) float64, no gradient.
        terms: (M, B, C) float32 or float64, finite.
        rank: add in ascending order instead of the fastest.

    Returns:
        (B, C) float64.
    """
    if in_place(terms) and not rank:
        wide = terms if terms.dtype == torch.float64 else widened(terms)
        return torch.from_numpy(_sum(weights.numpy(), wide.numpy()))
    products = (weights.unsqueeze(1) if weights.dim() == 1 else weights).unsqueeze(-1) * terms.double()
    return ranked(products).cumsum(dim=0)[-1] if rank else products.sum(dim=0)


def in_place(outputs: Tensor) -> bool:
    """Whether a formula may work in this thread's scratch room: nothing wants a gradient or a graph."""
    recording = outputs.requires_grad and torch.is_grad_enabled()
    return not recording and not tracing() and outputs.device.type == "cpu"


def widened(terms: Tensor, use: str = "terms") -> Tensor:
    """In float64; where ``in_place`` holds in scratch room, good until the next call for this use."""
    if not in_place(terms):
        return terms.double()
    return torch.from_numpy(room(tuple(terms.shape), np.float64, use)).copy_(terms)
