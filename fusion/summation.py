"""Sums over members that no order of members can change by a bit.

Floating-point addition is not associative, so the members' order would show in the last bits.
"""

# M members; trailing dimensions are free

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from quorate.fusion.rounding import round_once, with_slope

_EXPONENT = 0x7FF << 52
_FEW_MEMBERS = 64
_FITS_CACHE = 1 << 17
_SPLITTER = 2.0**27 + 1


def sum_members(terms: Tensor) -> Tensor:
    """Sum over the first dimension, the same bits for every order of it, in full float64.

    Rounding every summand first to one common grid, coarse enough that all partial sums are exact, makes addition
    associative again (Demmel and Nguyen, "Fast Reproducible Floating-Point Summation", ARITH 2013, pre-rounding).

    Args:
        terms: (M, ...) finite, below 1e300 / M; computed in float64, error at most M**2 * 2**-51 of
            the largest term, or 1e-320 per member where that is more.

    Returns:
        (...) float64.
    """
    terms = terms.double()
    fixed = terms.detach()
    low, high = torch.aminmax(fixed, dim=0)
    largest = torch.maximum(high, -low)
    # 1.5 * 2**k swallows what lies below the grid; k leaves room for M summands without a carry into the next binade.
    # Built from the exponent's bits: a tenth of the time of frexp and ldexp.
    room = max(2, (fixed.shape[0] - 1).bit_length()) << 52
    grid = ((largest.view(torch.int64) & _EXPONENT) + (room | 1 << 51)).view(torch.float64)
    total = (fixed + grid).sub_(grid).sum(dim=0)
    return with_slope(total, terms.sum(dim=0)) if terms.requires_grad else total


def weighted_sum(weights: Tensor, terms: Tensor, guard_bits: int = 0) -> Tensor:
    """Sum of w_m t_m over members: the exact sum, rounded once (see ``rounding``).

    Args:
        weights: (M,) or (M, B) float64, >= 0, no gradient.
        terms: (M, B, C) float32 or float64, finite.
        guard_bits: bits to keep beyond float32.

    Returns:
        (B, C) float64, with the gradient of the plain sum.
    """
    fixed = terms.detach()
    computed = _plain(weights, fixed)
    # Each product and each addition may be off by half a unit of the sum of magnitudes.
    ulps = 2 * fixed.shape[0] + 4
    if bool(fixed.amin() >= 0) or bool(fixed.amax() <= 0):
        error: int | Tensor = ulps
    else:
        # Terms that cancel leave a sum smaller than its error; beyond 2**20 it is computed exactly anyway.
        growth = _plain(weights, fixed.abs()) / computed.abs().clamp(min=1e-300)
        error = (ulps * growth.clamp(max=2.0**20).ceil()).clamp(max=2.0**26).long()
    total = round_once(computed, error, lambda at: _exact(weights, fixed, at), guard_bits)
    return with_slope(total, _plain(weights, terms)) if terms.requires_grad else total


def _plain(weights: Tensor, terms: Tensor) -> Tensor:
    if weights.dim() == 1 and terms.numel() < _FITS_CACHE:
        return (weights @ terms.reshape(terms.shape[0], -1).double()).view(terms.shape[1:])
    weights = weights.unsqueeze(1) if weights.dim() == 1 else weights
    if terms.shape[0] > _FEW_MEMBERS or terms.requires_grad:
        return (weights.unsqueeze(-1) * terms.double()).sum(dim=0)
    # Member by member: no temporary of all members' size, whose fresh pages cost more than the arithmetic.
    total = terms[0].double() * weights[0].unsqueeze(-1)
    for weight, term in zip(weights[1:], terms[1:], strict=True):
        total.addcmul_(term.double(), weight.unsqueeze(-1))
    return total


def _exact(weights: Tensor, terms: Tensor, at: Tensor) -> Tensor:
    """The sums at flat (B, C) indices: products split without error (Dekker 1971), summed exactly."""
    t = terms.reshape(terms.shape[0], -1)[:, at].double().cpu().numpy()
    rows = torch.div(at, terms.shape[-1], rounding_mode="floor")
    w = (weights.unsqueeze(1) if weights.dim() == 1 else weights[:, rows]).cpu().numpy()
    (w_high, w_low), (t_high, t_low) = _halves(w), _halves(t)
    parts = np.concatenate([w_high * t_high, w_high * t_low, w_low * t_high, w_low * t_low])
    return torch.tensor([math.fsum(column) for column in parts.T], dtype=torch.float64, device=at.device)


def _halves(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two halves of at most 26 bits each that add up to x: products of halves are exact."""
    scaled = x * _SPLITTER
    high = scaled - (scaled - x)
    return high, x - high
