"""CMA-ES (Hansen and Ostermeier 2001, "Completely derandomized self-adaptation in evolution strategies") for metrics
that no solver and no shortcut knows; the algorithm is the ``cmaes`` package's (Nomura and Shibata 2024).
"""

# M members, N rows, C classes, D numbers searched, K candidates of one generation

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from cmaes import CMA
from numpy.typing import ArrayLike

from quorate.tuning.errors import TuningError
from quorate.tuning.scoring import Floats, MetricLike, check_finite, check_predictions, find_metric
from quorate.tuning.solvers.greedy import greedy_weights
from quorate.tuning.solvers.weights import Weights, score_weights


def evolved_weights(
    probs: ArrayLike, labels: ArrayLike, metric: MetricLike, generations: int = 60, seed: int = 0
) -> Weights:
    """Improve greedy selection's weights by CMA-ES on the metric itself.

    Args:
        probs: (M, N, C) probabilities; for rmse (M, N) or (M, N, 1) values.
        labels: (N,) index of the true class; for rmse the true values.
        metric: a name, or a callable (labels, fused) -> loss.
        generations: of 4 + 3 log(M) candidates each.
        seed: same seed, same weights.

    Returns:
        Weights never worse than ``greedy_weights``; no gap, for nothing proves how far they are from the best.

    Raises:
        PredictionError: predictions and labels do not fit, or hold NaN.
        TuningError: an unknown metric, or fewer than one generation.
    """
    found = find_metric(metric)
    outputs, truth = check_predictions(probs, labels, found.name)
    check_finite(outputs)
    start = greedy_weights(outputs, truth, metric=metric).values
    sign = 1.0 if found.best is None else -1.0

    def losses(candidates: Floats) -> Floats:
        return sign * score_weights(outputs, truth, on_simplex(candidates), metric)

    best = on_simplex(evolve(losses, start, np.full(len(start), 1.0 / len(start)), generations, seed)[None])[0]
    return Weights(best, float(score_weights(outputs, truth, best, metric)[0]), None)


def evolve(losses: Callable[[Floats], Floats], start: Floats, sigma: Floats, generations: int, seed: int) -> Floats:
    """The best of all candidates that CMA-ES asked about, and of the start.

    Args:
        losses: (K, D) -> (K,), lower is better; NaN counts as worst.
        start: (D,).
        sigma: (D,) first step size of each number, above 0.
    """
    if generations < 1:
        raise TuningError("generations", f"{generations}", "give at least 1")
    best, least = start, _known(losses(start[None]))[0]
    if len(start) < 2:  # the algorithm needs a covariance
        return best
    search = CMA(mean=np.zeros(len(start)), sigma=1.0, seed=seed)
    for _ in range(generations):
        steps = [search.ask() for _ in range(search.population_size)]
        asked = start + sigma * np.array(steps)
        found = _known(losses(asked))
        search.tell(list(zip(steps, found.tolist(), strict=True)))
        if found.min() < least:
            best, least = asked[found.argmin()], found.min()
        if search.should_stop():
            break
    return best


def on_simplex(candidates: Floats) -> Floats:
    """(K, M) mirrored at 0 and scaled to sum to one: a member can be left out, which no softmax does, and the search
    finds no plateau behind 0, which clipping leaves."""
    mirrored = np.abs(candidates)
    total = mirrored.sum(axis=1, keepdims=True)
    return np.asarray(np.where(total > 0, mirrored / np.where(total > 0, total, 1.0), 1.0 / candidates.shape[1]))


def _known(losses: Floats) -> Floats:
    return np.nan_to_num(losses, nan=math.inf, posinf=1e300)
