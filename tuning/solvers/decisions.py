"""Weights and per-class biases for the decision itself: accuracy, balanced accuracy, macro F1, or a table of costs.

A row is decided for the class of the highest log(w'p) + b. The biases move the borders between classes, which is what
these metrics want and log-loss does not: a rare class counts as much as a frequent one in balanced accuracy, and a
costly mistake more than a cheap one. The search starts at the solved log-loss weights and goes on by the exact metric:
CMA-ES over weights and biases together, then one coordinate at a time, a bias by trying every value at which a row's
decision changes. A temperature is fitted last: it changes no decision, and makes the probabilities mean what they say.
"""

# M members, N rows, C classes, K candidates

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from quorate.fusion.calibration.calibration import Calibration
from quorate.tuning.errors import TuningError
from quorate.tuning.scoring import Floats, check_finite, check_predictions
from quorate.tuning.solvers.evolution import evolve, on_simplex
from quorate.tuning.solvers.simplex import simplex_weights

DECISION_METRICS = ("accuracy", "balanced_accuracy", "f1_macro")
_FLOOR = 1e-30  # as in Calibration: log(0) stays finite
# Shares of the way from the weights to one member's corner; below 0 away from it.
_STEPS = np.concatenate([-(2.0 ** -np.arange(1, 9)), 2.0 ** -np.arange(1, 9), np.linspace(0.1, 1.0, 10)])


@dataclass(frozen=True)
class Decisions:
    """What decides.

    Attributes:
        weights: (M,) float64, >= 0, sum one.
        calibration: of the fused row; its biases move decisions, its scale does not.
        score: the metric on the rows they were made from; a mean cost per row for a table of costs.
    """

    weights: Floats
    calibration: Calibration
    score: float

    def fuse(self, probs: NDArray[Any]) -> Floats:
        """(M, N, C) probabilities to the fused and calibrated (N, C)."""
        logs = np.log(np.maximum(np.tensordot(self.weights, probs, axes=1), _FLOOR))
        return np.asarray(
            np.exp(log_softmax(self.calibration.scale[0] * logs + np.array(self.calibration.bias), axis=1))
        )


def decision_weights(
    probs: ArrayLike,
    labels: ArrayLike,
    metric: str = "accuracy",
    costs: ArrayLike | None = None,
    generations: int = 60,
    restarts: int = 3,
    seed: int = 0,
) -> Decisions:
    """Search weights and per-class biases jointly for the decision's metric.

    Args:
        probs: (M, N, C) probabilities.
        labels: (N,) index of the true class.
        metric: accuracy, balanced_accuracy or f1_macro; not read when there are costs.
        costs: (C, C) cost of deciding for the column when the row is true; less is better.
        generations: of CMA-ES.
        restarts: searches from other weights, drawn at random; the metric is a step function with many local optima.
        seed: same seed, same decisions.

    Returns:
        Decisions whose score on these rows is never worse than that of the log-loss weights without bias. C - 1 biases
        fit chance too: judge them on rows they were not searched on.

    Raises:
        PredictionError: predictions and labels do not fit, or hold NaN.
        TuningError: another metric, or costs that are no (C, C) finite numbers.
    """
    outputs, truth = check_predictions(probs, labels, "accuracy")
    check_finite(outputs)
    table = _Table(truth, outputs.shape[2], metric, costs)
    if restarts < 0:
        raise TuningError("restarts", f"{restarts}", "give 0 or more")
    search = _Search(np.maximum(outputs.astype(np.float64), _FLOOR), table)
    others = np.random.default_rng(seed).dirichlet(np.ones(len(outputs)), restarts)
    starts = [simplex_weights(outputs, truth).values, *others]
    tried = [search.run(start, generations, seed + number) for number, start in enumerate(starts)]
    loss, weights, bias = min(tried, key=lambda found: found[0])
    return Decisions(weights, _tempered(weights, bias, outputs, truth), table.score(loss))


def decision_scores(metric: str, right: Floats, decided: Floats, support: Floats) -> Floats:
    """The metric from counts, as scikit-learn computes it.

    Args:
        metric: accuracy, balanced_accuracy or f1_macro.
        right: (K, C) rows of each class decided rightly.
        decided: (K, C) rows decided for each class.
        support: (K, C) or (1, C) rows of each class.

    Returns:
        (K,) from 0 to 1.
    """
    if metric == "accuracy":
        return np.asarray(right.sum(axis=1) / support.sum(axis=1))
    if metric == "balanced_accuracy":  # over the classes that are there
        recalls = right / np.where(support > 0, support, 1)
        return np.asarray(recalls.sum(axis=1) / (support > 0).sum(axis=1))
    named = decided + support  # a class that is neither true nor decided anywhere drops out
    return np.asarray((2 * right / np.where(named > 0, named, 1)).sum(axis=1) / (named > 0).sum(axis=1))


def check_costs(costs: ArrayLike, classes: int) -> Floats:
    """(C, C) as float64.

    Raises:
        TuningError: they are not that, or not finite.
    """
    fix = f"give ({classes}, {classes}) finite numbers, the true class down, the decision across"
    try:
        table = np.asarray(costs, dtype=np.float64)
    except (TypeError, ValueError):
        raise TuningError("costs", f"{costs!r:.80}", fix) from None
    if table.shape != (classes, classes) or not np.isfinite(table).all():
        raise TuningError("costs", f"shape {table.shape}", fix)
    return table


class _Table:
    """Counts of decisions, and the loss they give."""

    def __init__(self, labels: NDArray[np.int64], classes: int, metric: str, costs: ArrayLike | None):
        self.labels, self.classes, self.metric = labels, classes, metric
        self.support = np.bincount(labels, minlength=classes).astype(np.float64)
        self.costs = None if costs is None else check_costs(costs, classes)
        if self.costs is None and metric not in DECISION_METRICS:
            fix = f"give one of {', '.join(DECISION_METRICS)}, or costs"
            raise TuningError("metric", f"{metric!r} is no metric of decisions", fix)

    def loss(self, right: Floats, decided: Floats, cost: Floats) -> Floats:
        """(K,) from right decisions (K, C) and all decisions (K, C) of each class, and summed costs (K,)."""
        if self.costs is not None:
            return cost / len(self.labels)
        return 1 - decision_scores(self.metric, right, decided, self.support[None])

    def score(self, loss: float) -> float:
        return loss if self.costs is not None else 1 - loss

    def row_costs(self, decided: NDArray[Any]) -> Floats:
        """(...) cost of each row's decision (..., N); zeros without a table of costs."""
        return np.zeros(decided.shape) if self.costs is None else self.costs[self.labels, decided]

    def count(self, decided: NDArray[Any]) -> tuple[Floats, Floats, Floats]:
        """Right decisions, all decisions and summed costs of (K, N) decisions."""
        candidates = len(decided)
        offset = np.arange(candidates)[:, None] * self.classes
        size = candidates * self.classes
        all_of = np.bincount((decided + offset).ravel(), minlength=size).reshape(candidates, -1)
        hits = decided == self.labels
        right = np.bincount((self.labels + offset)[hits], minlength=size).reshape(candidates, -1)
        return right.astype(np.float64), all_of.astype(np.float64), self.row_costs(decided).sum(axis=1)


class _Search:
    """The exact metric of candidates, and the search one coordinate at a time."""

    def __init__(self, outputs: Floats, table: _Table):
        self.outputs, self.table = outputs, table
        self.members, self.rows, self.classes = outputs.shape
        self.flat = outputs.reshape(self.members, -1)

    def run(self, start: Floats, generations: int, seed: int) -> tuple[float, Floats, Floats]:
        """Loss, weights and biases found from some weights."""
        mean = np.concatenate([start, np.zeros(self.classes)])
        sigma = np.concatenate([np.full(self.members, 0.5 / self.members), np.full(self.classes, 0.5)])
        found = evolve(self.losses, mean, sigma, generations, seed)
        weights, bias = self.by_coordinates(on_simplex(found[None, : self.members])[0], found[self.members :])
        return float(self.losses(np.concatenate([weights, bias])[None])[0]), weights, bias

    def losses(self, candidates: Floats) -> Floats:
        """(K,) of (K, M + C) weights, not yet on the simplex, and biases."""
        weights, biases = on_simplex(candidates[:, : self.members]), candidates[:, self.members :]
        losses = np.empty(len(candidates))
        size = max(1, 2**22 // self.flat.shape[1])
        for at in range(0, len(candidates), size):
            scores = (weights[at : at + size] @ self.flat).reshape(-1, self.rows, self.classes)
            # exp of the bias times w'p orders classes as log w'p + b does, without a logarithm for each
            scores *= np.exp(np.clip(biases[at : at + size], -300, 300))[:, None]
            losses[at : at + size] = self.table.loss(*self.table.count(scores.argmax(axis=2)))
        return losses

    def by_coordinates(self, weights: Floats, bias: Floats, passes: int = 20) -> tuple[Floats, Floats]:
        """Improve every bias and every weight in turn until a pass over all improves nothing."""
        least = self.losses(np.concatenate([weights, bias])[None])[0]
        for _ in range(passes):
            before = least
            for number in range(self.classes):
                bias, least = self._bias(weights, bias, number, least)
            for member in range(self.members):
                weights, least = self._weight(weights, bias, member, least)
            if least >= before:
                break
        return weights, bias

    def _weight(self, weights: Floats, bias: Floats, member: int, least: float) -> tuple[Floats, float]:
        """Move along the line through the weights and the member's corner."""
        away = -weights[member] / (1 - weights[member]) if weights[member] < 1 else 0.0  # leaves the member out
        steps = np.append(_STEPS, away)[:, None]
        tried = on_simplex(np.maximum(weights + steps * (np.eye(self.members)[member] - weights), 0.0))
        losses = self.losses(np.concatenate([tried, np.broadcast_to(bias, (len(tried), self.classes))], axis=1))
        best = int(losses.argmin())
        return (tried[best], float(losses[best])) if losses[best] < least else (weights, least)

    def _bias(self, weights: Floats, bias: Floats, number: int, least: float) -> tuple[Floats, float]:
        """Try every value of one class's bias at which a decision changes; between two of them nothing does."""
        scores = np.log(np.tensordot(weights, self.outputs, axes=1)) + bias
        own = scores[:, number] - bias[number]
        scores[:, number] = -np.inf
        other = scores.argmax(axis=1)
        changes = scores.max(axis=1) - own  # above its row's value the class is decided for
        order = np.argsort(changes)
        losses = self.table.loss(*self._swept(other[order], order, number))
        edges = np.concatenate([[-np.inf], changes[order], [np.inf]])
        open_between = edges[1:] > edges[:-1] + 1e-6  # closer rows could not be told apart in float32
        losses = np.where(open_between, losses, np.inf)
        best = int(losses.argmin())
        if losses[best] >= least:
            return bias, least
        low, high = max(edges[best], edges[1] - 1), min(edges[best + 1], edges[-2] + 1)
        moved = bias.copy()
        moved[number] = (low + high) / 2
        return moved, float(losses[best])

    def _swept(self, other: NDArray[Any], order: NDArray[Any], number: int) -> tuple[Floats, Floats, Floats]:
        """Counts (N + 1, ...) while row after row, in this order, goes from its other class over to this one."""
        labels, steps = self.table.labels[order], np.arange(self.rows) + 1
        right = np.zeros((self.rows + 1, self.classes))
        decided = np.zeros((self.rows + 1, self.classes))
        lost = other == labels
        right[steps[lost], other[lost]] = -1
        right[steps[labels == number], number] = 1
        decided[steps, other] = -1
        decided[steps, number] = 1
        first = [counts[0] for counts in self.table.count(self._unordered(other, order)[None])]
        costs = self.table.costs
        change = np.zeros(self.rows) if costs is None else costs[labels, number] - costs[labels, other]
        return (
            first[0] + right.cumsum(axis=0),
            first[1] + decided.cumsum(axis=0),
            first[2] + np.append(0.0, change.cumsum()),
        )

    @staticmethod
    def _unordered(values: NDArray[Any], order: NDArray[Any]) -> NDArray[Any]:
        back = np.empty_like(values)
        back[order] = values
        return back


def _tempered(weights: Floats, bias: Floats, outputs: NDArray[Any], labels: NDArray[np.int64]) -> Calibration:
    """The calibration that decides by these biases; its scale is the one of least log-loss."""
    scores = np.log(np.maximum(np.tensordot(weights, outputs, axes=1), _FLOOR)) + bias

    def loss(log_scale: float) -> float:
        log_p = log_softmax(np.exp(log_scale) * scores, axis=1)
        return -float(log_p[np.arange(len(labels)), labels].mean())

    scale = float(np.exp(minimize_scalar(loss, bounds=(-3.0, 3.0), method="bounded").x))
    centred = scale * (bias - bias.mean())
    return Calibration((scale,), tuple(centred.tolist()))
