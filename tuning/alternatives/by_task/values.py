"""Alternatives for members that predict values: a constant, the median, means of least squared or absolute error."""

# M members, N rows

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from quorate.fusion.evaluation.measures import LEAST_PROBABILITY
from quorate.tuning.alternatives.base import Kind, Outputs
from quorate.tuning.alternatives.pools import Rows, by_name, shrunk, shrunk_weights
from quorate.tuning.alternatives.recipe import Recipe
from quorate.tuning.scoring import Floats, residual_gram
from quorate.tuning.solvers.pinball import pinball_gap, pinball_weights
from quorate.tuning.solvers.simplex import log_loss_gap, solve_squared_error, squared_error_score

Loss = Literal["squared", "absolute", "log"]
# More make a linear program of minutes.
_ROWS = 5000
_LABELLED_ROWS = 20_000


@dataclass(frozen=True)
class Always:
    """The same values, (K,), whatever the members say."""

    values: Floats

    def fuse(self, names: Sequence[str], probs: NDArray[Any]) -> NDArray[np.float32]:
        return np.tile(self.values.astype(np.float32), (probs.shape[1], 1))


@dataclass(frozen=True)
class Constant:
    """The mean of the true values, a quantile for an absolute error, how often a label holds: the floor."""

    loss: Loss = "squared"
    level: float = 0.5
    name: ClassVar[str] = "constant"
    kind: ClassVar[Kind] = "floor"
    fitted: ClassVar[bool] = True

    def fit(self, outputs: Outputs, seed: int) -> Always:
        truth = outputs.truth
        counts = np.ones(len(outputs)) if outputs.weights is None else outputs.weights
        if self.loss == "squared":
            return Always(np.average(truth, axis=0, weights=counts))
        if self.loss == "log":  # one row of each more (Laplace)
            return Always((counts @ truth + 1) / (counts.sum() + 2))
        return Always(np.array([weighted_quantile(column, counts, self.level) for column in truth.T]))


def weighted_quantile(values: Floats, counts: Floats, level: float) -> float:
    """The smallest value that so large a share of all that counts does not exceed."""
    order = np.argsort(values)
    passed = np.cumsum(counts[order])
    return float(values[order[np.searchsorted(passed, passed[-1] * level)]])


@dataclass(frozen=True)
class Median:
    """The median of all members."""

    name: ClassVar[str] = "median"
    kind: ClassVar[Kind] = "ensemble"
    fitted: ClassVar[bool] = False

    def fit(self, outputs: Outputs, seed: int) -> Recipe:
        return Recipe("regression_median", outputs.names)


@dataclass(frozen=True)
class LeastSquares:
    """The weighted mean of least squared error, drawn towards equal weights as far as that helps rows left out."""

    name: ClassVar[str] = "tuned"
    kind: ClassVar[Kind] = "ensemble"
    fitted: ClassVar[bool] = True

    def fit(self, outputs: Outputs, seed: int) -> Recipe:
        def solved(rows: Rows) -> Floats:
            found: Floats = solve_squared_error(error_gram(outputs.rows(rows)))
            return found

        def losses(tried: Floats, rows: Rows) -> Floats:
            fold = outputs.rows(rows)
            return np.asarray(len(fold) * np.einsum("km,mn,kn->k", tried, error_gram(fold), tried))

        return _mean_of(outputs.names, shrunk(outputs, seed, solved, losses))


@dataclass(frozen=True)
class LeastAbsolute:
    """The weighted mean of least absolute error, or of least pinball loss at another level than the median's, drawn
    towards equal weights as far as that helps rows left out.
    """

    level: float = 0.5
    name: ClassVar[str] = "tuned"
    kind: ClassVar[Kind] = "ensemble"
    fitted: ClassVar[bool] = True

    def fit(self, outputs: Outputs, seed: int) -> Recipe:
        some = outputs.sample(_ROWS, seed)

        def losses(tried: Floats, rows: Rows) -> Floats:
            values, truth, counts = _flat(some.rows(rows))
            short = truth - tried @ values
            errors = np.maximum(self.level * short, (self.level - 1) * short)
            return np.asarray(errors.sum(axis=1) if counts is None else errors @ counts)

        def solved(rows: Rows) -> Floats:
            values, truth, counts = _flat(some.rows(rows))
            return pinball_weights(values, truth, self.level, counts).values

        return _mean_of(some.names, shrunk(some, seed, solved, losses))


@dataclass(frozen=True)
class LeastLogLoss:
    """Of labels that hold or not, each by itself: the weighted mean of least log-loss per label, shrunk likewise."""

    name: ClassVar[str] = "tuned"
    kind: ClassVar[Kind] = "ensemble"
    fitted: ClassVar[bool] = True

    def fit(self, outputs: Outputs, seed: int) -> Recipe:
        some = outputs.sample(_LABELLED_ROWS, seed)
        return _mean_of(some.names, shrunk_weights(label_columns(some), _by_label(some), seed))


def _mean_of(names: tuple[str, ...], weights: Floats) -> Recipe:
    return Recipe("weighted_mean", names, by_name(names, weights))


def label_columns(outputs: Outputs) -> Floats:
    """(M, N * K) what members gave the truth of each label."""
    values, truth, _ = _flat(outputs)
    return np.maximum(np.where(truth > 0, values, 1 - values), LEAST_PROBABILITY)


def _by_label(outputs: Outputs) -> Outputs:
    """Every label as a row, those of one row a group."""
    each = outputs.truth.shape[1]
    groups = np.arange(len(outputs)) if outputs.groups is None else outputs.groups
    return Outputs(
        outputs.names,
        outputs.probs.reshape(len(outputs.names), -1, 1),
        outputs.truth.ravel().astype(np.int64),
        None if outputs.weights is None else np.repeat(outputs.weights, each),
        np.repeat(groups, each),
        None if outputs.times is None else np.repeat(outputs.times, each),
    )


def _flat(outputs: Outputs) -> tuple[Floats, Floats, Floats | None]:
    """(M, N * K) values, (N * K,) true ones, and how much each counts: every value is a row of its own."""
    values, counts = outputs.probs.astype(np.float64).reshape(len(outputs.names), -1), outputs.weights
    each = outputs.truth.shape[1]
    return values, outputs.truth.ravel(), None if counts is None else np.repeat(counts, each)


def value_gap(outputs: Outputs, weights: Mapping[str, float], metric: str, level: float = 0.5) -> float | None:
    """How much lower the error of a weighted mean can be at most than at these weights, in the metric; None for a
    metric that is not convex in them.
    """
    given = np.array([weights[name] for name in outputs.names])
    if metric == "log_loss":
        return log_loss_gap(label_columns(outputs), given)
    if metric in ("rmse", "brier"):
        gap: float = squared_error_score(error_gram(outputs), given, root=metric == "rmse")[1]
        return gap
    if metric not in ("mae", "crps") and not metric.startswith("pinball"):
        return None
    some = outputs.sample(_ROWS, 0)
    values, truth, counts = _flat(some)
    gap = pinball_gap(values, truth, given, level, counts)
    return gap if metric.startswith("pinball") else 2 * gap


def error_gram(outputs: Outputs) -> Floats:
    """(M, M) weighted means of products of the members' errors, over a row's values as well."""
    values, truth, counts = _flat(outputs)
    if counts is not None:
        root = np.sqrt(counts / counts.mean())
        values, truth = (values - truth) * root, np.zeros(len(truth))
    return residual_gram(values, truth)
