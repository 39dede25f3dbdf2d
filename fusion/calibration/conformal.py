"""Conformal prediction: sets of classes, or intervals of values, that hold the truth with a stated probability.

Split conformal prediction (Vovk, Gammerman and Shafer 2005, "Algorithmic Learning in a Random World", section 4.1; Lei
et al. 2018, "Distribution-Free Predictive Inference for Regression", section 2.2): on rows that nothing was fitted on,
the score of the truth is 1 - its probability (Sadinle, Lei and Wasserman 2019, "Least Ambiguous Set-Valued Classifiers
with Bounded Error Levels"), or the distance of the value. Whatever scores no worse than all but a share of them belongs
to the set. Coverage holds over rows drawn like those; with thresholds by class, over the rows of each class. Of
quantiles the score is how far the truth is outside the outer two, below 0 inside (conformalized quantile regression:
Romano, Patterson and Candes 2019), so that intervals are as wide as each row's quantiles say. Of several labels that
each hold or not the score is that of the true one which is said least (the outer sets of Cauchois, Gupta and Duchi
2021, "Knowing what You Know: valid and validated confidence sets in multiclass and multilabel prediction"): the set
holds all that are true. Of several values it is the largest distance, each by its own scale (Diquigiovanni, Fontana and
Vantini 2022, "Conformal prediction bands for multivariate functional data"): all are in their intervals. Of a mean with
a variance it is the distance in standard deviations (Lei et al. 2018, section 5.2).
"""

# N rows, C classes or labels, K values, Q quantiles

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from quorate.fusion.errors import RuleOptionError

# What the columns of a row are: one class of them is true, each label holds or not, values, quantiles of one value, or
# means and behind them their variances.
Columns = Literal["classes", "labels", "values", "quantiles", "moments"]
_LEAST_SPREAD = 1e-12


def fit_conformal(
    fused: NDArray[Any],
    labels: NDArray[Any],
    coverage: float,
    by_class: bool = False,
    columns: Columns | None = None,
    scales: NDArray[Any] | None = None,
) -> float | NDArray[np.float64]:
    """The threshold whose sets, or intervals, hold the truth of a new row with probability ``coverage`` at least.

    Args:
        fused: (N, C) probabilities, (N, K) values, (N, Q) ascending quantiles, or (N, 2 K) means and variances, of rows
            that neither members nor fusion were fitted on.
        labels: (N,) index of the true class, (N, C) which labels hold, or float of the true value, (N, K) of several.
        coverage: above 0 and below 1.
        by_class: a threshold for each class, or for each label in the rows where it holds.
        columns: what the columns are; classes, or by the labels' type quantiles (one of which is a value) when None.
        scales: (K,) of several values: how far each is off, roughly, on other rows; the same for all when None.

    Returns:
        The largest score that belongs, for probabilities from 0 to 1; (C,) of them with ``by_class``, (K,) of several
        values. Infinity where the rows are too few to promise so much: then everything belongs.

    Raises:
        RuleOptionError: coverage is out of range.
    """
    if not 0 < coverage < 1:
        raise RuleOptionError("conformal", "coverage", coverage, "give a share above 0 and below 1, such as 0.9")
    columns = columns or ("quantiles" if labels.dtype.kind == "f" else "classes")
    if columns == "classes":
        scores = 1 - fused[np.arange(len(labels)), labels].astype(np.float64)
        if not by_class:
            return _quantile(scores, coverage)
        return np.array([_quantile(scores[labels == known], coverage) for known in range(fused.shape[1])])
    if columns == "labels":
        each = 1 - fused.astype(np.float64)
        if by_class:
            return np.array([_quantile(each[labels[:, k] > 0, k], coverage) for k in range(fused.shape[1])])
        return _quantile(np.where(labels > 0, each, 0.0).max(axis=1), coverage)
    low, high, spread = _reach(fused, columns)
    off = np.maximum(low - labels.reshape(low.shape), labels.reshape(low.shape) - high) / spread
    if low.shape[1] == 1:
        return _quantile(off[:, 0], coverage)
    if columns == "moments":
        return _quantile(off.max(axis=1), coverage)
    by_value = np.ones(low.shape[1]) if scales is None else np.asarray(scales, dtype=np.float64)
    return np.asarray(_quantile((off / by_value).max(axis=1), coverage) * by_value)


def prediction_sets(fused: NDArray[Any], threshold: float | NDArray[Any]) -> NDArray[np.bool_]:
    """(N, C) which classes belong, of (N, C) probabilities; none in a row that is like no row seen before.

    Args:
        threshold: as fitted, or (N, 1) or (N, C) where rows have their own.
    """
    return np.asarray(1 - fused.astype(np.float64) <= threshold)


def prediction_intervals(
    fused: NDArray[Any], threshold: float | NDArray[Any], columns: Columns = "quantiles"
) -> NDArray[np.float64]:
    """(N, 2) ends of the interval around each of (N, 1) values, or the outer two of (N, Q) quantiles.

    Of several values, or means with variances, (N, K, 2). Where quantiles would be drawn together past each other, both
    ends are in their middle.

    Args:
        threshold: as fitted, or (N, 1) or (N, K) where rows have their own.
        columns: what the columns are.
    """
    low, high, spread = _reach(fused, columns)
    reach = np.asarray(threshold, dtype=np.float64)
    reach = np.broadcast_to(reach[:, : low.shape[1]] if reach.ndim == 2 else reach, low.shape) * spread
    reach = np.maximum(reach, (low - high) / 2)
    ends = np.stack([low - reach, high + reach], axis=-1)
    return ends[:, 0] if low.shape[1] == 1 else ends


def _reach(
    fused: NDArray[Any], columns: Columns
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """(N, K) what a score is counted from, below and above, and its unit."""
    numbers = fused.astype(np.float64)
    if columns == "moments":
        means, variances = np.split(numbers, 2, axis=1)
        return means, means, np.sqrt(np.maximum(variances, _LEAST_SPREAD))
    if columns == "quantiles":
        numbers, last = numbers[:, :1], numbers[:, -1:]
        return numbers, last, np.ones_like(numbers)
    return numbers, numbers, np.ones_like(numbers)


def _quantile(scores: NDArray[np.float64], coverage: float) -> float:
    """The ceil((n + 1) * coverage)-th smallest."""
    rank = math.ceil(round((len(scores) + 1) * coverage, 9))
    return math.inf if rank > len(scores) else float(np.partition(scores, rank - 1)[rank - 1])
