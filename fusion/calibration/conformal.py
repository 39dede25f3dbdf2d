"""Conformal prediction: sets of classes, or intervals of values, that hold the truth with a stated probability.

Split conformal prediction (Vovk, Gammerman and Shafer 2005, "Algorithmic Learning in a Random World", section 4.1; Lei
et al. 2018, "Distribution-Free Predictive Inference for Regression", section 2.2): on rows that nothing was fitted on,
the score of the truth is 1 - its probability (Sadinle, Lei and Wasserman 2019, "Least Ambiguous Set-Valued Classifiers
with Bounded Error Levels"), or the distance of the value. Whatever scores no worse than all but a share of them belongs
to the set. Coverage holds over rows drawn like those; with thresholds by class, over the rows of each class. Of
quantiles the score is how far the truth is outside the outer two, below 0 inside (conformalized quantile regression:
Romano, Patterson and Candes 2019), so that intervals are as wide as each row's quantiles say.
"""

# N rows, C classes

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quorate.fusion.errors import RuleOptionError


def fit_conformal(
    fused: NDArray[Any], labels: NDArray[Any], coverage: float, by_class: bool = False
) -> float | NDArray[np.float64]:
    """The threshold whose sets, or intervals, hold the truth of a new row with probability ``coverage`` at least.

    Args:
        fused: (N, C) probabilities, or (N, 1) values, or (N, Q) ascending quantiles, of rows that neither members nor
            fusion were fitted on.
        labels: (N,) index of the true class, or float of the true value.
        coverage: above 0 and below 1.
        by_class: a threshold for each class.

    Returns:
        The largest score that belongs, for probabilities from 0 to 1; (C,) of them with ``by_class``. Infinity where
        the rows are too few to promise so much: then everything belongs.

    Raises:
        RuleOptionError: coverage is out of range.
    """
    if not 0 < coverage < 1:
        raise RuleOptionError("conformal", "coverage", coverage, "give a share above 0 and below 1, such as 0.9")
    if labels.dtype.kind == "f":
        low, high = fused[:, 0].astype(np.float64), fused[:, -1].astype(np.float64)
        return _quantile(np.maximum(low - labels, labels - high), coverage)
    scores = 1 - fused[np.arange(len(labels)), labels].astype(np.float64)
    if not by_class:
        return _quantile(scores, coverage)
    return np.array([_quantile(scores[labels == known], coverage) for known in range(fused.shape[1])])


def prediction_sets(fused: NDArray[Any], threshold: float | NDArray[Any]) -> NDArray[np.bool_]:
    """(N, C) which classes belong, of (N, C) probabilities; none in a row that is like no row seen before.

    Args:
        threshold: as fitted, or (N, 1) or (N, C) where rows have their own.
    """
    return np.asarray(1 - fused.astype(np.float64) <= threshold)


def prediction_intervals(fused: NDArray[Any], threshold: float | NDArray[Any]) -> NDArray[np.float64]:
    """(N, 2) ends of the interval around each of (N, 1) values, or the outer two of (N, Q) quantiles.

    Where quantiles would be drawn together past each other, both ends are in their middle.

    Args:
        threshold: as fitted, or (N, 1) where rows have their own.
    """
    low, high = fused[:, 0].astype(np.float64), fused[:, -1].astype(np.float64)
    reach = np.broadcast_to(threshold, fused.shape)[:, 0]
    reach = np.maximum(reach, (low - high) / 2)
    return np.stack([low - reach, high + reach], axis=1)


def _quantile(scores: NDArray[np.float64], coverage: float) -> float:
    """The ceil((n + 1) * coverage)-th smallest."""
    rank = math.ceil(round((len(scores) + 1) * coverage, 9))
    return math.inf if rank > len(scores) else float(np.partition(scores, rank - 1)[rank - 1])
