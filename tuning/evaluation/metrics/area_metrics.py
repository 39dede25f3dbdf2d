"""Areas under curves, which compare rows with each other, as numbers of each row all the same.

Such a metric is a ratio N / P of a number N, of degree one in how much each row counts, and of the rows P that are
true. A row's number is the derivative of N in how much that row counts. By Euler's theorem their weighted sum is N
itself, so the metric of all rows is exact; under other weights it is right to first order, which is what an interval
needs (the infinitesimal jackknife: Jaeckel 1972; Efron 1982, "The Jackknife, the Bootstrap and Other Resampling
Plans", chapter 6). For the area under the ROC curve these are the placement values of DeLong, DeLong and
Clarke-Pearson 1988, "Comparing the Areas under Two or More Correlated Receiver Operating Characteristic Curves".
"""

# N rows, K scores a row, each with its own truth

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quorate.deployments.spec.fields.types import Task
from quorate.tuning.evaluation.metrics.metric import RowMetric
from quorate.tuning.scoring import Floats

# Labels and fused rows to truth and scores, (N, K) both.
Scores = Callable[[NDArray[Any], NDArray[Any]], tuple[NDArray[np.bool_], NDArray[Any]]]


def area_metric(name: str, scores: Scores, task: Task = "classification") -> RowMetric:
    """roc_auc or average_precision, the mean over the K scores; those with one kind of row alone are left out."""
    numbers = _roc_auc if name == "roc_auc" else _average_precision

    def rows(labels: NDArray[Any], fused: NDArray[Any], counts: Floats | None) -> Floats:
        weights = np.ones(len(fused)) if counts is None else counts
        found = [
            numbers(true, score.astype(np.float64), weights)
            if true[weights > 0].any() and not true[weights > 0].all()
            else (np.zeros(len(true)), np.zeros(len(true)))
            for true, score in zip(*(part.T for part in scores(labels, fused)), strict=True)
        ]
        return np.concatenate([np.stack(parts, axis=1) for parts in zip(*found, strict=True)], axis=1)

    return RowMetric(name, name, rows, _mean_ratio, task, higher_is_better=True)


def _mean_ratio(means: Floats) -> Floats:
    above, below = np.split(means, 2, axis=-1)
    there = below > 0
    areas = np.clip(above / np.where(there, below, 1), 0, 1) * there
    return np.asarray(areas.sum(axis=-1) / np.maximum(there.sum(axis=-1), 1))


def _roc_auc(true: NDArray[np.bool_], scores: Floats, counts: Floats) -> tuple[Floats, Floats]:
    """Of true rows the share of false ones below them; of false rows how far they move it for all true ones."""
    _, place = np.unique(scores, return_inverse=True)
    positive, negative = counts * true, counts * ~true
    below = _share(place, negative)
    above = 1 - _share(place, positive)
    area = np.average(below, weights=positive)
    moved = positive.sum() / negative.sum() * (above - area)
    return np.where(true, below, moved), true.astype(np.float64)


def _share(place: NDArray[np.intp], counts: Floats) -> Floats:
    """(N,) the share of all that counts below each row's place; half of what is at it."""
    at = np.bincount(place, counts)
    return np.asarray(((at.cumsum() - at / 2) / at.sum())[place])


def _average_precision(true: NDArray[np.bool_], scores: Floats, counts: Floats) -> tuple[Floats, Floats]:
    """Of each row the precision where it stands, if it is true, and what it changes of the precision of those below.

    As scikit-learn computes it: rows of equal scores are retrieved together, nothing is interpolated.
    """
    _, place = np.unique(-scores, return_inverse=True)  # the best first
    at, true_at = np.bincount(place, counts), np.bincount(place, counts * true)
    retrieved, hits = at.cumsum(), true_at.cumsum()
    gained, lost = (_from_on(true_at * part) for part in (1 / retrieved, hits / retrieved**2))
    precision = hits / retrieved
    numbers = np.where(true, precision[place] + gained[place], 0.0) - lost[place]
    return numbers, true.astype(np.float64)


def _from_on(values: Floats) -> Floats:
    """The sum of each value and all behind it."""
    return np.asarray(values[::-1].cumsum()[::-1])
