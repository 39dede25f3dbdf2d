"""What a policy would have earned, from rows on which another one chose, whose chances are known."""

# N rows, K arms

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
# Of a bet on one row at most, lest one row take all that was won.
_MOST_STAKED = 0.75
_STEPS = 40


def inverse_propensity(target: Floats, seen: Floats, known: NDArray[np.bool_], rewards: Floats) -> Floats:
    """(N,) rewards of a policy without bias: each that is known counts one over the chance that it would be.

    Horvitz and Thompson 1952. Of rows on which every arm's reward is known for sure it is what the policy earns there.

    Args:
        target: (N, K) chances with which the policy would pull each arm.
        seen: (N, K) chances with which each arm's reward would become known, above 0 wherever it did.
        known: (N, K) whether it did.
        rewards: (N, K) where known.
    """
    counted = np.where(known, rewards / np.where(known, seen, 1.0), 0.0)
    return np.asarray((target * counted).sum(axis=1))


def doubly_robust(
    target: Floats, seen: Floats, known: NDArray[np.bool_], rewards: Floats, promised: Floats
) -> Floats:  # fmt: skip
    """(N,) the same, of less variance where a model's promises (N, K) are near the rewards, and without bias where not.

    Dudik, Langford and Li 2011, "Doubly robust policy evaluation and learning", equation 2.
    """
    corrected = inverse_propensity(target, seen, known, rewards - promised)
    return np.asarray(corrected + (target * promised).sum(axis=1))


def lower_mean(values: NDArray[Any], delta: float) -> float:
    """A bound that the mean is above with probability 1 - delta, of values that are never below 0.

    By betting against each smaller mean (Waudby-Smith and Ramdas 2024, "Estimating means of bounded random variables by
    betting", section 4; Waudby-Smith, Wu, Ramdas, Karampatziakis and Mineiro 2022, "Anytime-valid off-policy inference
    for contextual bandits", section 2): values may be as large as they like, as one over a small chance is.

    Args:
        values: (N,) in an order that has nothing to do with them.
    """
    found = np.asarray(values, dtype=np.float64)
    low, high = 0.0, float(found.mean()) if len(found) else 0.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        if _wins(found, middle, delta):
            low = middle
        else:
            high = middle
    return low


def _wins(values: Floats, mean: float, delta: float) -> bool:
    """Whether bets on values being above ``mean`` on average multiply what was staked by 1 / delta."""
    if mean <= 0:
        return True
    counts = np.arange(1, len(values) + 1)
    averages = (mean + values.cumsum()) / (counts + 1)
    spreads = (mean**2 + ((values - averages) ** 2).cumsum()) / (counts + 1)
    before = np.concatenate([[mean], averages[:-1]]) - mean
    stakes = before / (np.concatenate([[mean**2], spreads[:-1]]) + before**2)
    stakes = np.clip(stakes, 0.0, _MOST_STAKED / mean)
    return bool(np.log1p(stakes * (values - mean)).cumsum().max(initial=0.0) >= math.log(1 / delta))
