"""Thresholds that keep a promise on new rows: tests of a risk, and how several of them are taken one after the other.

Angelopoulos, Bates, Candes, Jordan and Lei 2021, "Learn then Test", section 3: whatever a threshold is chosen by, its
risk is at most what was stated, with the stated confidence over the rows it was fitted on, if a test said so of it and
the tests together err that rarely.
"""

# N rows, T thresholds

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr

from quorate.fusion.errors import RuleOptionError


def check_confidence(rule: str, confidence: float | None) -> None:
    if confidence is not None and not 0 < confidence < 1:
        raise RuleOptionError(rule, "confidence", confidence, "give a share above 0 and below 1, such as 0.95, or None")


def share_p_value(errors: int, rows: int, most: float) -> float:
    """How likely so few errors are if more than a share ``most`` of all rows are; exact (Clopper and Pearson 1934)."""
    return float(bdtr(errors, rows, most)) if rows else 1.0


def mean_p_value(losses: NDArray[Any], most: float, delta: float = 0.05) -> float:
    """How likely such losses are if their mean is above ``most``, by betting against that.

    Waudby-Smith and Ramdas 2024, "Estimating means of bounded random variables by betting", section 4: the gain of a
    bet whose stake depends on earlier rows only exceeds 1/p with probability p at most.

    Args:
        losses: (N,) in [-1, 1], in an order that has nothing to do with them.
        most: the mean.
        delta: the level that the stakes are made for; the p-value is right at every other.
    """
    if most >= 1:  # no loss is larger
        return 0.0
    found, mean = (np.asarray(losses, dtype=np.float64) + 1) / 2, (most + 1) / 2
    counts = np.arange(1, len(found) + 1)
    averages = (0.5 + found.cumsum()) / (counts + 1)
    spreads = (0.25 + ((found - averages) ** 2).cumsum()) / (counts + 1)
    before = np.concatenate([[0.25], spreads[:-1]])
    stakes = np.minimum(np.sqrt(2 * np.log(1 / delta) / (len(found) * before)), 0.9 / (1 - mean))
    gains = np.log1p(-stakes * (found - mean)).cumsum()
    return float(np.exp(-max(gains.max(initial=0.0), 0.0)))


def passed(p_values: Callable[[int], float], starts: Sequence[int], count: int, delta: float) -> list[int]:
    """Which of so many thresholds, ordered from the safest, pass; wrong for none with probability 1 - delta.

    Fixed sequence testing from several starts: each goes on towards the riskier until one fails, at its part of delta.

    Args:
        p_values: of the threshold of a number.
        starts: where tests begin, chosen without a look at who is right.
        count: T.
    """
    found: set[int] = set()
    for start in starts:
        for number in range(start, count):
            if number not in found and p_values(number) > delta / len(starts):
                break
            found.add(number)
    return sorted(found)
