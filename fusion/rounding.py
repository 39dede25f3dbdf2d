"""Round a float64 result once, to the same bits whatever order it was computed in.

A float64 sum or product differs in its last bits from order to order, but every order's error is bounded. Where the
whole interval of that bound rounds to one shorter number, that number is the rounding of the exact result and owes
nothing to the order; the few entries where it does not (3e-8 of them for eight members) are computed exactly. Testing
whether a rounding is safe is Ziv's strategy ("Fast evaluation of elementary mathematical functions with correctly
rounded last bit", ACM TOMS 17(3), 1991).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

# float64 has 52 bits behind the point, float32 23.
_DROPPED_BITS = 29
# The boundary between neighbours stands 1/128 of their distance off the midpoint. The mean of two float32 numbers falls
# exactly on the midpoint half of the time; there no bound could tell which neighbour is nearer.
_OFF_CENTRE = 7

Exact = Callable[[Tensor], Tensor]


def round_once(computed: Tensor, error_ulps: int | Tensor, exact: Exact, guard_bits: int = 0) -> Tensor:
    """Shorten the significands to 24 bits and ``guard_bits`` more.

    Args:
        computed: (...) float64, finite, each within ``error_ulps`` units in the last place of the exact result.
        error_ulps: one bound, or one per entry (int64); below 2**27.
        exact: given the flat indices of entries, their exact results rounded to float64.
        guard_bits: kept beyond float32, for a result that is computed with further; each doubles the entries that
            must be computed exactly.

    Returns:
        (...) float64, representable in float32 where ``guard_bits`` is 0 and the entry is in float32's normal range.
    """
    bits = computed.contiguous().view(torch.int64)
    dropped = _DROPPED_BITS - guard_bits
    mask = (1 << dropped) - 1
    lift = (1 << (dropped - 1)) + (1 << (dropped - _OFF_CENTRE)) + 77
    lowest = bits + (lift - error_ulps)
    tail = lowest & mask
    doubtful = tail > (mask - 2 * error_ulps) if isinstance(error_ulps, Tensor) else None
    if doubtful is None and tail.numel() and int(tail.amax()) > mask - 2 * int(error_ulps):
        doubtful = tail > mask - 2 * error_ulps
    if doubtful is not None and bool(doubtful.any()):
        indices = doubtful.flatten().nonzero().flatten()
        lifted = exact(indices).view(torch.int64) + lift
        lowest.view(-1)[indices] = lifted
        tail.view(-1)[indices] = lifted & mask
    return lowest.sub_(tail).view(torch.float64)


def with_slope(value: Tensor, plain: Tensor) -> Tensor:
    """Give ``value``, which was computed without a gradient, the gradient of ``plain``."""
    return value + (plain - plain.detach()).to(value.dtype)
