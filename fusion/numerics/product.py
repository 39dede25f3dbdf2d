"""A product over members that does not underflow, member after member in the order given."""

# M members, B batch, K numbers a row

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from quorate.fusion.numerics.tracing import for_numpy, tracing

# Six factors no smaller than float32's smallest, 1.4e-45, and no larger than its largest, 3.4e38, stay in float64's
# normal range.
_RUN = 6
# Where no factor is above the first, partial products hardly grow: a product above the second never was smaller.
_PROBABILITY, _SMALLEST = 1.00001, 1e-290


def multiply_members(factors: Tensor, probabilities: Tensor) -> Tensor:
    """Product over the first dimension, up to one power of two for each row.

    Args:
        factors: (M, B, K) float32 or float64, from 1.4e-45 to 3.4e38, or 0.
        probabilities: (M, B, C) float32, what the factors come from: where none of these is above 1, no factor is.

    Returns:
        (B, K) float64.
    """
    if tracing():
        return _scaled_product(factors.double())
    if for_numpy(factors):
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):  # not safe then, and done again
            product = torch.from_numpy(np.multiply.reduce(factors.detach().numpy(), axis=0, dtype=np.float64))
    else:
        product = factors.double().prod(dim=0)
    safe = _is_safe(factors.detach(), product.detach(), probabilities.detach())
    return product if safe else _scaled_product(factors.double())


def _is_safe(factors: Tensor, product: Tensor, probabilities: Tensor) -> bool:
    if float(product.amin()) < _SMALLEST and bool(((product < _SMALLEST) & (factors != 0).all(dim=0)).any()):
        return False
    return len(factors) <= _RUN or float(probabilities.amax()) <= _PROBABILITY


def _scaled_product(factors: Tensor) -> Tensor:
    """The same with exponents kept apart, and rows relative to their largest product."""
    product = torch.ones_like(factors[0])
    exponent = torch.zeros_like(product)
    for run in torch.split(factors, _RUN):
        for factor in run:  # one by one: the bits of the plain product, for a power of two changes none
            product = product * factor
        # Not frexp: torch 2.13's inductor writes C++ for it that does not compile.
        shift = torch.where(product != 0, product.abs(), 1.0).detach().log2().floor()
        product, exponent = product * torch.pow(2.0, -shift), exponent + shift
    exponent = torch.where(product > 0, exponent, -(2.0**30))
    relative = (exponent - exponent.amax(dim=-1, keepdim=True)).clamp(min=-1000)
    return product * torch.pow(2.0, relative)
