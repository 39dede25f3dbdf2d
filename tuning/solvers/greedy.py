"""Greedy selection with replacement (Caruana, Niculescu-Mizil, Crew, Ksikes, "Ensemble Selection from Libraries of
Models", ICML 2004).

Ties, rounding and the choice of the best prefix follow AutoGluon's EnsembleSelection, so that both give the same
weights: losses count to six decimals, losses within 1e-12 tie, a member already chosen wins a tie, and among equals a
generator seeded with 0 draws.
"""

# M members, N rows, C classes

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from quorate.tuning.errors import PredictionError, TuningError
from quorate.tuning.scoring import (
    Floats,
    Metric,
    MetricLike,
    accuracy,
    check_finite,
    check_predictions,
    find_metric,
    residual_gram,
    true_class,
)
from quorate.tuning.solvers.columns import Columns, TrueClass
from quorate.tuning.solvers.simplex import rows_gap, squared_error_score
from quorate.tuning.solvers.weights import Weights

_DECIMALS = 6
# Members of the largest start where members vote.
_MOST_STARTED = 9
_ROUND_ABOVE = 1e-4


@dataclass(frozen=True)
class GreedyPath:
    """Members in the order they were chosen, and the loss after each round."""

    order: tuple[int, ...]
    losses: tuple[float, ...]

    def weights(self, members: int) -> Floats:
        """(M,) share of each member in the shortest prefix that has the lowest loss."""
        best = self.order[: self.losses.index(min(self.losses)) + 1]
        shares: Floats = np.bincount(best, minlength=members) / len(best)
        # AutoGluon's last step; without it the last bit of weights such as 3/20 differs
        return shares / shares.sum() if shares.sum() < 1 else shares


class Sums(Protocol):
    """The members chosen so far, and what adding each one would give."""

    def losses(self) -> Floats:
        """(M,) loss of the mean of the chosen members and one more."""

    def add(self, member: int) -> None: ...

    def scored(self, values: Floats) -> Weights:
        """The weights with their score, and the gap where there is a proof."""


def greedy_weights(probs: ArrayLike, labels: ArrayLike, rounds: int = 25, metric: MetricLike = "log_loss") -> Weights:
    """Add, round by round, the member that helps the mean most; a member's weight is how often it was added.

    Args:
        probs: (M, N, C) probabilities; for rmse (M, N) or (M, N, 1) values.
        labels: (N,) index of the true class; for rmse the true values.
        rounds: additions; the shortest prefix with the lowest loss is kept.
        metric: log_loss, brier, rmse, accuracy, balanced_accuracy, f1_macro, roc_auc, or a callable
            (labels (N,), fused (N, C)) -> loss, lower is better.

    Returns:
        The weights, their score as the metric counts, and for log_loss, brier and rmse the gap to the best weights.

    Raises:
        PredictionError: predictions and labels do not fit, or hold NaN.
        TuningError: an unknown metric, or fewer than one round.
    """
    found = find_metric(metric)
    outputs, truth = check_predictions(probs, labels, found.name)
    path = _path(outputs, truth, found, rounds)
    return _sums(outputs, truth, found).scored(path.weights(len(outputs)))


def greedy_path(probs: ArrayLike, labels: ArrayLike, rounds: int = 25, metric: MetricLike = "log_loss") -> GreedyPath:
    """The selection itself, round by round; arguments and errors as in ``greedy_weights``."""
    found = find_metric(metric)
    outputs, truth = check_predictions(probs, labels, found.name)
    return _path(outputs, truth, found, rounds)


def _path(outputs: NDArray[Any], labels: NDArray[Any], metric: Metric, rounds: int) -> GreedyPath:
    """The selection; where members vote, the best of several that start with the best few members.

    Of two votes that differ no one wins, so that a second member never helps alone. Caruana et al. 2004, section 2.2,
    start with the best members together.
    """
    path = select(_sums(outputs, labels, metric), len(outputs), rounds)
    if metric.name in ("log_loss", "brier", "rmse") or not _are_votes(outputs):
        return path
    best = np.argsort(_sums(outputs, labels, metric).losses(), kind="stable").tolist()
    starts = [best[:size] for size in range(2, min(len(best), _MOST_STARTED) + 1)]
    paths = [path, *(select(_sums(outputs, labels, metric), len(outputs), rounds, start) for start in starts)]
    return min(paths, key=lambda one: min(one.losses))


def _are_votes(outputs: NDArray[Any]) -> bool:
    """Whether every row is a single class."""
    return bool(outputs.ndim == 3 and np.isin(outputs[:, :100], (0, 1)).all() and np.isin(outputs, (0, 1)).all())


def select(sums: Sums, members: int, rounds: int, start: Sequence[int] = ()) -> GreedyPath:
    """The selection over sums that may be made elsewhere, after the members it starts with."""
    if rounds < 1:
        raise TuningError("rounds", f"{rounds}", "give at least 1")
    random = np.random.RandomState(0)
    order: list[int] = []
    losses: list[float] = []
    rounded = False
    for member in start[: rounds - 1]:
        sums.add(member)
        order.append(member)
        losses.append(math.inf)  # of these alone nothing is looked at
    for _ in range(1 if members == 1 else rounds - len(order)):
        each = sums.losses()
        each = each.round(_DECIMALS) if rounded else each
        best = _choose(each, order, random)
        if not order and abs(each[best]) > _ROUND_ABOVE:
            rounded = True
        losses.append(float(each[best].round(_DECIMALS) if rounded else each[best]))
        order.append(best)
        sums.add(best)
    return GreedyPath(tuple(order), tuple(losses))


def _choose(losses: Floats, chosen: list[int], random: np.random.RandomState) -> int:
    if np.isnan(losses).all():
        raise PredictionError("metric", "NaN for every member", "give rows the metric is defined on")
    ties = np.flatnonzero(np.isclose(losses, np.nanmin(losses), atol=0, rtol=1e-12))
    used = [member for member in ties if member in chosen]
    return int(random.choice(used if len(ties) > 1 and used else ties))


def _sums(outputs: NDArray[Any], labels: NDArray[Any], metric: Metric) -> Sums:
    if metric.name == "log_loss":
        return LogLossSums(Columns(true_class(outputs, labels)))
    if metric.name in ("brier", "rmse"):
        return SquaredErrorSums(residual_gram(outputs, labels), root=metric.name == "rmse")
    check_finite(outputs)
    if metric.name == "accuracy":
        return AccuracySums(outputs, labels)
    return _AnySums(outputs, labels, metric)


class LogLossSums:
    """Log-loss reads nothing but the probability of the true class, and is convex.

    The tangent at the members chosen so far bounds from below what each one more can give, for one matrix product; a
    member is only tried while its bound is below the best loss found. At 50 members that is 3 or 4 tries a round.
    """

    def __init__(self, rows: TrueClass):
        self.rows = rows
        self.count = 0
        rows.restart()

    def losses(self) -> Floats:
        """(M,) losses; infinite where the bound shows that the member cannot win the round, nor tie."""
        losses = np.full(self.rows.members, np.inf)
        bounds = self._bounds()
        order = np.argsort(bounds)
        size = self.rows.group
        for at in range(0, len(order), size):
            # two units of the last decimal that counts: nothing that could tie after rounding is left out
            if bounds[order[at]] > losses.min() + 2 * 10.0**-_DECIMALS:
                break
            some = order[at : at + size].tolist()
            losses[some] = self.rows.added_losses(self.count, some) / self.rows.rows
        return losses

    def _bounds(self) -> Floats:
        if self.count == 0:
            return np.full(self.rows.members, -np.inf)
        sums = self.rows.added_slopes(self.count) / self.rows.rows
        return np.asarray(sums[0] - (sums[1:] - 1.0) / (self.count + 1))

    def add(self, member: int) -> None:
        self.rows.add(member)
        self.count += 1

    def scored(self, values: Floats) -> Weights:
        return Weights(values, self.rows.loss(values) / self.rows.rows, rows_gap(self.rows, values))


class SquaredErrorSums:
    """The squared error of a mean is a quadratic form in how often each member was chosen."""

    def __init__(self, gram: Floats, root: bool):
        self.gram, self.root = gram, root
        self.counts = np.zeros(len(gram))

    def losses(self) -> Floats:
        cross = self.gram @ self.counts
        squared = self.counts @ cross + 2 * cross + np.diagonal(self.gram)
        mean = np.maximum(squared, 0.0) / (self.counts.sum() + 1) ** 2
        return np.asarray(np.sqrt(mean) if self.root else mean)

    def add(self, member: int) -> None:
        self.counts[member] += 1

    def scored(self, values: Floats) -> Weights:
        return Weights(values, *squared_error_score(self.gram, values, self.root))


class AccuracySums:
    """Only rows whose decision some member can still turn are counted again."""

    def __init__(self, outputs: NDArray[Any], labels: NDArray[np.int64]):
        self.outputs, self.labels = outputs.astype(np.float64, copy=False), labels
        rows = np.arange(len(labels))
        self.total = np.zeros(outputs.shape[1:])
        # lead of the true class over each other: (N, C), lowest and highest of any member
        self.lowest = np.full(outputs.shape[1:], np.inf)
        self.highest = np.full(outputs.shape[1:], -np.inf)
        for output in self.outputs:
            lead = output[rows, labels, None] - output
            np.minimum(self.lowest, lead, out=self.lowest)
            np.maximum(self.highest, lead, out=self.highest)
        self.lowest[rows, labels] = np.inf
        self.highest[rows, labels] = np.inf
        self.rows, self.count = rows, 0

    def losses(self) -> Floats:
        return np.asarray(1.0 - self.hits() / len(self.labels))

    def hits(self) -> NDArray[np.int64]:
        """(M,) rows that the chosen members and one more decide rightly."""
        lead = self.total[self.rows, self.labels, None] - self.total
        slack = 1e-9 * (self.count + 1)  # sums in another order differ by less
        right = (lead + self.lowest > slack).all(axis=1)
        wrong = (lead + self.highest < -slack).any(axis=1)
        open_rows = np.flatnonzero(~right & ~wrong)
        hits = np.empty(len(self.outputs), dtype=np.int64)
        for member, output in enumerate(self.outputs):
            fused = self.total[open_rows] + output[open_rows]
            hits[member] = (fused.argmax(axis=1) == self.labels[open_rows]).sum()
        return np.asarray(hits + right.sum())

    def add(self, member: int) -> None:
        self.total += self.outputs[member]
        self.count += 1

    def scored(self, values: Floats) -> Weights:
        return Weights(values, accuracy(self.labels, np.tensordot(values, self.outputs, axes=1)), None)


class _AnySums:
    """Any other metric: the fused predictions are computed and judged whole."""

    def __init__(self, outputs: NDArray[Any], labels: NDArray[Any], metric: Metric):
        self.outputs, self.labels, self.metric = outputs, labels, metric
        self.total = np.zeros(outputs.shape[1:])
        self.count = 0

    def losses(self) -> Floats:
        share = 1.0 / (self.count + 1)
        return np.array([self.metric.loss(self.labels, (self.total + output) * share) for output in self.outputs])

    def add(self, member: int) -> None:
        self.total += self.outputs[member]
        self.count += 1

    def scored(self, values: Floats) -> Weights:
        return Weights(values, self.metric.function(self.labels, np.tensordot(values, self.outputs, axes=1)), None)
