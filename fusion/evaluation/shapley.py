"""What each member is worth to the ensemble: the Shapley value (Shapley 1953, "A Value for n-Person Games")."""

# M members, N rows, C classes

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quorate.fusion.errors import FusionError, RuleOptionError

# 2**16 coalitions of stored predictions are minutes, 2**17 are not worth the wait.
MOST_EXACT_MEMBERS = 16

Worth = Callable[[tuple[int, ...]], float]


@dataclass(frozen=True)
class ShapleyValues:
    """Worth per member, summing to worth(all) - worth(nobody); standard errors are 0 where the values are exact."""

    values: NDArray[np.float64]
    standard_errors: NDArray[np.float64]


def shapley_values(num_members: int, worth: Worth, num_orders: int = 1000, seed: int = 0) -> ShapleyValues:
    """Exact up to 16 members; above, the mean over sampled orders and their reverses.

    Sampling: Castro, Gomez and Tejada 2009, "Polynomial calculation of the Shapley value based on sampling"; reverses:
    Mitchell, Cooper, Frank and Holmes 2022, "Sampling Permutations for Shapley Value Estimation" (antithetic).

    Args:
        num_members: M.
        worth: of a coalition, given as ascending member indices; also of nobody, ``()``.
        num_orders: pairs of orders to sample, at least 2; read only above 16 members.
        seed: the same seed samples the same orders.

    Raises:
        RuleOptionError: num_orders is below 2 with more than 16 members.
    """
    if num_members <= MOST_EXACT_MEMBERS:
        return ShapleyValues(_exact(num_members, worth), np.zeros(num_members))
    if num_orders < 2:
        raise RuleOptionError("shapley_values", "num_orders", num_orders, "sample at least 2 pairs of orders")
    random = np.random.default_rng(seed)
    gains = np.empty((num_orders, num_members))
    for row in gains:
        order = random.permutation(num_members)
        row[:] = (_marginal_gains(order, worth) + _marginal_gains(order[::-1], worth)) / 2
    return ShapleyValues(gains.mean(axis=0), gains.std(axis=0, ddof=1) / math.sqrt(num_orders))


def pool_worth(
    outputs: NDArray[np.float32], score: Callable[[NDArray[np.float64]], float], nobody: float, shares: Sequence[float]
) -> Worth:
    """Worth of a coalition: the score of its (weighted) mean of stored predictions.

    Args:
        outputs: (M, N, C) stored predictions.
        score: of fused predictions (N, C); higher is better (negate a loss).
        nobody: the score without any member, such as that of always giving the classes' frequencies.
        shares: one weight per member, above 0.

    Raises:
        FusionError: a weight is not above 0: a coalition of such members has no mean.
    """
    if len(shares) != len(outputs) or not all(math.isfinite(share) and share > 0 for share in shares):
        raise FusionError(f"shares are {list(shares)}; give {len(outputs)} numbers above 0, one per member")
    weights = np.asarray(shares, dtype=np.float64)

    def worth(coalition: tuple[int, ...]) -> float:
        if not coalition:
            return nobody
        chosen = list(coalition)
        pooled = np.tensordot(weights[chosen] / weights[chosen].sum(), outputs[chosen], axes=1)
        return float(score(pooled))

    return worth


def _exact(num_members: int, worth: Worth) -> NDArray[np.float64]:
    worths = np.array(
        [worth(tuple(m for m in range(num_members) if mask >> m & 1)) for mask in range(1 << num_members)]
    )
    masks = np.arange(1 << num_members)
    sizes = np.array([mask.bit_count() for mask in range(1 << num_members)])
    # A coalition of s without the member is one of M * binomial(M - 1, s) equally likely ways to meet it.
    chance = np.array([1 / (num_members * math.comb(num_members - 1, size)) for size in range(num_members)])
    values = np.empty(num_members)
    for member in range(num_members):
        without = masks[(masks >> member & 1) == 0]
        values[member] = (chance[sizes[without]] * (worths[without | 1 << member] - worths[without])).sum()
    return values


def _marginal_gains(order: NDArray[np.int64], worth: Worth) -> NDArray[np.float64]:
    gains = np.empty(len(order))
    before, coalition = worth(()), ()
    for member in order.tolist():
        coalition = tuple(sorted((*coalition, member)))
        after = worth(coalition)
        gains[member] = after - before
        before = after
    return gains
