"""Weights of members and what they are worth; scores of many weight vectors at once."""

# M members, N rows, C classes, K weight vectors

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from quorate.tuning.errors import PredictionError
from quorate.tuning.scoring import (
    Floats,
    MetricLike,
    check_finite,
    check_predictions,
    find_metric,
    residual_gram,
    true_class,
)

# A logarithm costs ten times a product, so this many probabilities are multiplied before each: none is below
# LEAST_PROBABILITY, hence no product below 3e-251.
_GROUP = 16
# Weight vectors and rows per step: their (128, 1024) float64 stay in a second-level cache.
_VECTORS, _ROWS = 128, 64 * _GROUP
# For accuracy twice as many pairs of a row and a class, and so many classes of a row that may outdo the others.
_PAIRS, _STRONGEST = 2048, 4


@dataclass(frozen=True)
class Weights:
    """One weight per member.

    Attributes:
        values: (M,) float64, >= 0, sum one.
        score: the metric of the weighted mean on the rows the weights were made from.
        gap: no weights on the simplex score better by more than this; None where the metric has no such proof.
    """

    values: Floats
    score: float
    gap: float | None


def score_weights(
    probs: ArrayLike, labels: ArrayLike, candidates: ArrayLike, metric: MetricLike = "log_loss"
) -> Floats:
    """Score many weight vectors against the same predictions.

    Args:
        probs: (M, N, C) probabilities; for rmse (M, N) or (M, N, 1) values.
        labels: (N,) index of the true class; for rmse the true values.
        candidates: (K, M) weights >= 0; each row is divided by its sum.
        metric: a name, or a callable (labels, fused) -> loss.

    Returns:
        (K,) scores, as the metric counts.

    Raises:
        PredictionError: shapes do not fit, or a candidate has a negative weight or none above 0.
    """
    found = find_metric(metric)
    outputs, truth = check_predictions(probs, labels, found.name)
    weights = np.atleast_2d(np.asarray(candidates, dtype=np.float64))
    if weights.shape[1] != len(outputs) or not (weights.min() >= 0 and weights.sum(axis=1).min() > 0):
        fix = f"give (K, {len(outputs)}) weights >= 0, one above 0 in each row"
        raise PredictionError("candidates", f"shape {weights.shape}", fix)
    weights = weights / weights.sum(axis=1, keepdims=True)
    if found.name == "log_loss":
        return _log_losses(true_class(outputs, truth), weights)
    if found.name in ("brier", "rmse"):
        squared = np.maximum(((weights @ residual_gram(outputs, truth)) * weights).sum(axis=1), 0.0)
        return np.asarray(np.sqrt(squared) if found.name == "rmse" else squared)
    check_finite(outputs)
    if found.name == "accuracy":
        return _accuracies(outputs, truth, weights)
    return np.array([found.function(truth, np.tensordot(one, outputs, axes=1)) for one in weights])


def _log_losses(columns: Floats, weights: Floats) -> Floats:
    """(K,) log-loss of weight vectors (K, M), rows summing to one, on true-class columns (M, N)."""
    rows = columns.shape[1]
    columns = np.pad(columns, ((0, 0), (0, -rows % _GROUP)), constant_values=1.0)  # log 1 adds nothing
    logs = np.zeros(len(weights))
    for at in range(0, len(weights), _VECTORS):
        some = weights[at : at + _VECTORS]
        for start in range(0, columns.shape[1], _ROWS):
            fused = some @ columns[:, start : start + _ROWS]
            products = np.multiply.reduce(fused.reshape(len(some), _GROUP, -1), axis=1)
            logs[at : at + _VECTORS] += np.log(products).sum(axis=1)
    logs /= -rows
    return logs


def _accuracies(outputs: NDArray[Any], labels: NDArray[np.int64], weights: Floats) -> Floats:
    """(K,) accuracy of weight vectors (K, M), rows summing to one.

    What every member agrees on no weights can turn: only pairs of a row and a class are computed in which some member
    has the true class ahead and some other the class.
    """
    rows = np.arange(len(labels))
    lowest, highest = np.full(outputs.shape[1:], np.inf), np.full(outputs.shape[1:], -np.inf)
    for lead in _leads(outputs, labels):
        np.minimum(lowest, lead, out=lowest)
        np.maximum(highest, lead, out=highest)
    lowest[rows, labels] = highest[rows, labels] = np.inf
    wrong: NDArray[np.bool_] = np.asarray((highest < 0).any(axis=1))
    contested = np.asarray(lowest <= 0) & ~wrong[:, None]
    _drop_outdone(contested, outputs, labels)
    rivals = contested.sum(axis=1)
    hits = np.full(len(weights), float(((rivals == 0) & ~wrong).sum()))
    for count in np.unique(rivals[rivals > 0]):
        row = np.flatnonzero(rivals == count)
        size = max(1, _PAIRS // int(count))
        for at in range(0, len(row), size):
            some = row[at : at + size]
            other = np.nonzero(contested[some])[1].reshape(len(some), count).T
            hits += _ahead(outputs, labels[some], some, other, weights)
    return hits / len(labels)


def _leads(outputs: NDArray[Any], labels: NDArray[np.int64]) -> Iterator[Floats]:
    """(N, C) of each member: how far the true class is ahead of every class."""
    rows = np.arange(len(labels))
    for output in outputs:
        yield output[rows, labels, None].astype(np.float64) - output


def _drop_outdone(contested: NDArray[np.bool_], outputs: NDArray[Any], labels: NDArray[np.int64]) -> None:
    """Leave out, of (N, C) pairs, the classes that another class of the row is ahead of in every member.

    The true class is behind both, or behind the other alone, whatever the weights. Only a few others of each row are
    looked at, the strongest in the mean.
    """
    rows, classes = np.arange(len(labels)), np.arange(contested.shape[1])
    mean = np.where(contested, sum(_leads(outputs, labels)), np.inf)
    for strongest in np.argsort(mean, axis=1)[:, :_STRONGEST].T:
        # a tie counts against the true class where the other has the lower number, and only there
        outdone = contested & ((strongest < labels)[:, None] | (classes > labels[:, None]))
        outdone &= contested[rows, strongest][:, None]
        outdone[rows, strongest] = False
        for lead in _leads(outputs, labels):
            outdone &= lead >= lead[rows, strongest, None]
        contested &= ~outdone


def _ahead(
    outputs: NDArray[Any], labels: NDArray[np.int64], rows: NDArray[Any], other: NDArray[Any], weights: Floats
) -> Floats:
    """(K,) how many of the rows (n,) have their true class ahead of all others (rivals, n)."""
    leads = outputs[:, rows, labels].astype(np.float64)[:, None] - outputs[:, rows, other]
    flat = leads.reshape(len(outputs), -1)
    # where a tie goes to the class of the lower number, as argmax lets it, a lead of 0 is none
    least = np.where(other < labels, np.finfo(np.float64).tiny, 0.0).ravel()
    hits = np.empty(len(weights))
    for at in range(0, len(weights), _VECTORS):
        ahead = weights[at : at + _VECTORS] @ flat >= least
        hits[at : at + _VECTORS] = ahead.reshape(len(ahead), *other.shape).all(axis=1).sum(axis=1)
    return hits
