"""Bagged weights: the mean over weights solved on random halves of the members and resampled rows.

Caruana, Niculescu-Mizil, Crew and Ksikes 2004, section 3.3: selection from many members overfits the rows it selects
on; a random half of the members holds fewer combinations that fit them by chance. With all members in every bag the
spread of the weights is the bootstrap's (Efron 1979).
"""

# M members, N rows, C classes, B bags

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from quorate.tuning.errors import TuningError
from quorate.tuning.scoring import Floats, check_predictions, find_metric
from quorate.tuning.solvers.greedy import greedy_weights
from quorate.tuning.solvers.weights import Weights, score_weights


@dataclass(frozen=True)
class Bagged:
    """The bags' weights.

    Attributes:
        weights: their mean, and its score on all rows.
        each: (B, M) weights of each bag, 0 for members that were not in it.
    """

    weights: Weights
    each: Floats

    def interval(self, confidence: float = 0.95) -> Floats:
        """(2, M) quantiles of each member's weight over the bags."""
        return np.asarray(np.quantile(self.each, [(1 - confidence) / 2, (1 + confidence) / 2], axis=0))


def bagged_weights(
    probs: ArrayLike,
    labels: ArrayLike,
    metric: str = "log_loss",
    solve: Callable[..., Weights] = greedy_weights,
    bags: int = 20,
    member_share: float = 0.5,
    seed: int = 0,
) -> Bagged:
    """Solve for every bag and average.

    Args:
        probs: (M, N, C) probabilities; for rmse (M, N) values.
        labels: (N,) index of the true class; for rmse the true values.
        metric: any that ``solve`` takes.
        solve: (probs, labels, metric=...) -> weights: ``greedy_weights``, ``simplex_weights``, ``evolved_weights``.
        bags: B.
        member_share: of the members drawn into a bag, at least one; 1 for all.
        seed: same seed, same weights.

    Raises:
        TuningError: no bag, or a share that is not above 0 and at most 1.
        PredictionError: predictions and labels do not fit.
    """
    outputs, truth = check_predictions(probs, labels, find_metric(metric).name)
    if bags < 1 or not 0 < member_share <= 1:
        raise TuningError("bags", f"{bags} of a share of {member_share}", "give at least 1, and a share in (0, 1]")
    random = np.random.default_rng(seed)
    size = max(1, round(member_share * len(outputs)))
    each = np.zeros((bags, len(outputs)))
    for bag in each:
        drawn = np.sort(random.choice(len(outputs), size, replace=False))
        rows = np.sort(random.integers(0, len(truth), len(truth)))
        bag[drawn] = solve(_drawn(outputs, drawn, rows), truth[rows], metric=metric).values
    mean = each.mean(axis=0)
    return Bagged(Weights(mean / mean.sum(), float(score_weights(outputs, truth, mean, metric)[0]), None), each)


def _drawn(outputs: NDArray[Any], members: NDArray[Any], rows: NDArray[Any]) -> NDArray[Any]:
    return np.stack([outputs[member][rows] for member in members])
