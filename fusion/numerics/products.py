"""A product over members that does not underflow."""

# M members, B batch, K numbers a row

from __future__ import annotations

import torch
from torch import Tensor

from quorate.fusion.numerics.rounding import UNIT
from quorate.fusion.numerics.sorting import ranked
from quorate.fusion.numerics.tracing import tracing

# Six factors no smaller than float32's smallest, 1.4e-45, and no larger than its largest, 3.4e38, stay in float64's
# normal range.
_RUN = 6
# Where no factor is above the first, partial products hardly grow: a product above the second never was smaller.
_PROBABILITY, _SMALLEST = 1.00001, 1e-290


def multiply_members(factors: Tensor, rank: bool, probabilities: Tensor) -> tuple[Tensor, float]:
    """Product over the first dimension, up to one power of two for each row.

    Args:
        factors: (M, B, K) float64, from 1.4e-45 to 3.4e38, or 0.
        rank: multiply in ascending order instead of the fastest.
        probabilities: (M, B, C) float32, what the factors come from: where none of these is above 1, no factor is.

    Returns:
        (B, K) float64, and by how much two orders may differ, relative to each product.
    """
    error = (2 * len(factors) + 2) * UNIT
    if not tracing():
        product = ranked(factors).cumprod(dim=0)[-1] if rank else factors.prod(dim=0)
        if _is_safe(factors.detach(), product.detach(), probabilities.detach()):
            return product, error
    return _scaled_product(ranked(factors) if rank else factors), error


def _is_safe(factors: Tensor, product: Tensor, probabilities: Tensor) -> bool:
    if float(product.amin()) < _SMALLEST and bool(((product < _SMALLEST) & (factors != 0).all(dim=0)).any()):
        return False
    return len(factors) <= _RUN or float(probabilities.amax()) <= _PROBABILITY


def _scaled_product(factors: Tensor) -> Tensor:
    """The same with exponents kept apart, and rows relative to their largest product."""
    product = torch.ones_like(factors[0])
    exponent = torch.zeros_like(product)
    for run in torch.split(factors, _RUN):
        product = product * run.prod(dim=0)
        # Not frexp: torch 2.13's inductor writes C++ for it that does not compile.
        shift = torch.where(product != 0, product.abs(), 1.0).detach().log2().floor()
        product, exponent = product * torch.pow(2.0, -shift), exponent + shift
    exponent = torch.where(product > 0, exponent, -(2.0**30))
    relative = (exponent - exponent.amax(dim=-1, keepdim=True)).clamp(min=-1000)
    return product * torch.pow(2.0, relative)
