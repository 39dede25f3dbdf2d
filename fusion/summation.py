"""A sum over members that no order of members can change by a bit.

Floating-point addition is not associative, so the members' order would show in the last bits. Rounding every summand
first to one common grid, coarse enough that all partial sums are exact, makes addition associative again (Demmel and
Nguyen, "Fast Reproducible Floating-Point Summation", ARITH 2013, pre-rounding).
"""

# M members; trailing dimensions are free

from __future__ import annotations

import torch
from torch import Tensor


def sum_members(terms: Tensor) -> Tensor:
    """Sum over the first dimension, the same bits for every order of it.

    Args:
        terms: (M, ...) finite; computed in float64, error at most M * 2**-51 of the largest term.

    Returns:
        (...) float64.
    """
    terms = terms.double()
    largest = terms.detach().abs().amax(dim=0)
    # 1.5 * 2**k swallows what lies below the grid; k leaves room for M summands without a carry into the next binade.
    exponent = torch.frexp(largest * terms.shape[0]).exponent + 1
    grid = torch.ldexp(torch.full_like(largest, 1.5), exponent)
    rounded = (terms.detach() + grid) - grid
    total = rounded.sum(dim=0)
    # The rounding has no useful gradient: pass the plain sum's through.
    return total + (terms - terms.detach()).sum(dim=0) if terms.requires_grad else total
