"""A product over members that no order of members can change by a bit and that does not underflow."""

# M members; trailing dimensions are free

from __future__ import annotations

from fractions import Fraction

import torch
from torch import Tensor

from quorate.fusion.rounding import round_once

# Six factors no smaller than float32's smallest, 1.4e-45, stay in float64's normal range.
_RUN = 6


def multiply_members(factors: Tensor, guard_bits: int = 0) -> tuple[Tensor, Tensor | None]:
    """Product over the first dimension: the exact product, rounded once (see ``rounding``).

    Args:
        factors: (M, ...) float32 or float64, from 1.4e-45 to 1e45, or 0.
        guard_bits: bits to keep beyond float32.

    Returns:
        Significand (...) float64 and exponent (...) int32 of two, None for all zero; no gradient.
    """
    factors = factors.detach()
    product = factors[0].double()
    exponent: Tensor | None = None
    for at in range(1, factors.shape[0]):
        if at % _RUN == 0:
            product, shift = torch.frexp(product)
            exponent = shift if exponent is None else exponent + shift
        product = product * factors[at]

    def exact(indices: Tensor) -> Tensor:
        columns = factors.reshape(factors.shape[0], -1)[:, indices].T.tolist()
        shifts = [0] * len(columns) if exponent is None else exponent.reshape(-1)[indices].tolist()
        values = [float(_product(column) / Fraction(2) ** shift) for column, shift in zip(columns, shifts, strict=True)]
        return torch.tensor(values, dtype=torch.float64, device=factors.device)

    return round_once(product, 2 * factors.shape[0], exact, guard_bits), exponent


def _product(factors: list[float]) -> Fraction:
    result = Fraction(1)
    for factor in factors:
        result *= Fraction(factor)
    return result
