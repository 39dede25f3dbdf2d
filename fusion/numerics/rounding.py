"""Round a float64 result once, to the same float32 whatever order it was computed in.

A float64 sum or product differs in its last bits from order to order, but every order's error is bounded. Where the
whole interval of that bound rounds to one float32, that number owes nothing to the order; the few rows where it does
not (one entry in 3e7 for eight members) are computed again with their terms sorted. Testing whether a rounding is safe
is Ziv's strategy ("Fast evaluation of elementary mathematical functions with correctly rounded last bit", ACM TOMS
17(3), 1991).
"""

# B batch, K numbers a row

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

# The boundary between neighbours stands 1/128 of their distance off the midpoint. The mean of two float32 numbers falls
# exactly on the midpoint half of the time; there no bound could tell which neighbour is nearer.
_OFF_CENTRE = 1 + 2.0**-31

UNIT = 2.0**-53
"""Half the distance from 1 to the next float64: the error of one operation, relative to its result."""

Array = NDArray[Any]


def round_once(wide: Array, error: float | Array, again: Callable[[Array], Array]) -> Array:
    """Round to float32. Call it with numpy's warnings off: what overflows float32 becomes infinity.

    Args:
        wide: (B, K) float64; overwritten.
        error: by how much two orders may differ: relative to each value, or (B, K) absolute.
        again: given row numbers, the same rows computed in an order that all orders share, within the same error.

    Returns:
        (B, K) float32.
    """
    if isinstance(error, float):
        wide *= _OFF_CENTRE * (1 - error)
        low = wide.astype(np.float32)
        wide *= (1 + error) / (1 - error)
        high = wide.astype(np.float32)
    else:
        wide *= _OFF_CENTRE
        low, high = (wide - error).astype(np.float32), (wide + error).astype(np.float32)
    same = low == high
    if not same.all():
        rows = np.flatnonzero(~same.all(axis=-1))
        low[rows] = (again(rows) * _OFF_CENTRE).astype(np.float32)
    return low


def shorten(values: Tensor) -> Tensor:
    """float64 to float32, between the same boundaries as ``round_once``."""
    return (values * _OFF_CENTRE).float()


def with_slope(value: Tensor, plain: Tensor) -> Tensor:
    """Give ``value``, which was computed without a gradient, the gradient of ``plain``."""
    return value + (plain - plain.detach()).to(value.dtype)
