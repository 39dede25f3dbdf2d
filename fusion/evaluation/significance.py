"""Is one model better than another on the same rows, or was it luck?"""

# N rows

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from quorate.fusion.errors import ShapeError

# Rows drawn at once: what a cache holds. Less memory, no other result, and faster than more.
_DRAWN = 250_000


@dataclass(frozen=True)
class Interval:
    """Mean difference over the rows, and the ends of its confidence interval."""

    difference: float
    low: float
    high: float


@dataclass(frozen=True)
class McNemar:
    """Rows that only one of two models got right, and the probability of so uneven a split by chance."""

    only_first: int
    only_second: int
    p_value: float


def paired_bootstrap(
    first: ArrayLike, second: ArrayLike, confidence: float = 0.95, num_resamples: int = 2000, seed: int = 0
) -> Interval:
    """Confidence interval of mean(first - second), rows drawn together (Efron and Tibshirani 1993, 13: percentile).

    Args:
        first: (N,) one number per row, a loss or 0/1 for wrong and right.
        second: (N,) the other model's, on the same rows.
        confidence: between 0 and 1.
        num_resamples: draws of N rows.
        seed: the same seed gives the same interval.

    Raises:
        ShapeError: the two are not of one length, or shorter than two rows.
    """
    difference = _paired(first, second)
    if np.ptp(difference) == 0:
        return Interval(float(difference[0]), float(difference[0]), float(difference[0]))
    found = stats.bootstrap(
        (difference,),
        np.mean,
        confidence_level=confidence,
        n_resamples=num_resamples,
        batch=max(1, _DRAWN // len(difference)),
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return Interval(float(difference.mean()), float(found.low), float(found.high))


def mcnemar(first_correct: ArrayLike, second_correct: ArrayLike) -> McNemar:
    """McNemar's exact test (1947): under the null, rows that only one model gets right split evenly.

    Args:
        first_correct: (N,) bool.
        second_correct: (N,) bool, the other model's, on the same rows.

    Raises:
        ShapeError: the two are not of one length, or shorter than two rows.
    """
    difference = _paired(first_correct, second_correct)
    only_first, only_second = int((difference > 0).sum()), int((difference < 0).sum())
    uneven = only_first + only_second
    p_value = float(stats.binomtest(only_first, uneven).pvalue) if uneven else 1.0
    return McNemar(only_first, only_second, p_value)


def _paired(first: ArrayLike, second: ArrayLike) -> np.ndarray:
    one, other = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if one.ndim != 1 or one.shape != other.shape or len(one) < 2:
        raise ShapeError("the pair", "two of one length (rows,), at least 2", f"{one.shape} and {other.shape}")
    return one - other
