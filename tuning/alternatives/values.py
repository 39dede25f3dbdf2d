"""Alternatives for members that predict values: a constant, the median, means of least squared or absolute error."""

# M members, N rows

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from quorate.tuning.alternatives.base import Kind, Outputs
from quorate.tuning.alternatives.pools import SHRINKAGES, by_name, shrunk
from quorate.tuning.alternatives.recipe import Recipe
from quorate.tuning.data.folds import folds_of
from quorate.tuning.scoring import Floats, residual_gram
from quorate.tuning.solvers.pinball import pinball_loss, pinball_weights
from quorate.tuning.solvers.simplex import solve_squared_error, squared_error_score

_FOLDS = 5
# More make a linear program of minutes.
_ROWS = 5000


@dataclass(frozen=True)
class Always:
    """One value, whatever the members say."""

    value: float

    def fuse(self, names: Sequence[str], probs: NDArray[Any]) -> NDArray[np.float32]:
        return np.full((probs.shape[1], 1), self.value, dtype=np.float32)


@dataclass(frozen=True)
class Constant:
    """The mean of the true values, or their median for an absolute error: below it nothing is worth serving."""

    median: bool = False
    name: ClassVar[str] = "constant"
    kind: ClassVar[Kind] = "floor"
    fitted: ClassVar[bool] = True

    def fit(self, outputs: Outputs, seed: int) -> Always:
        if not self.median:
            return Always(float(np.average(outputs.labels, weights=outputs.weights)))
        order = np.argsort(outputs.labels)
        counts = np.ones(len(outputs)) if outputs.weights is None else outputs.weights
        passed = np.cumsum(counts[order])
        return Always(float(outputs.labels[order[np.searchsorted(passed, passed[-1] / 2)]]))


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
        equal = np.full(len(outputs.names), 1.0 / len(outputs.names))
        losses = np.zeros(len(SHRINKAGES))
        for rest, fold in folds_of(outputs.labels, outputs.groups, outputs.times, _FOLDS, seed):
            tried = shrunk(solve_squared_error(error_gram(outputs.rows(rest))), equal)
            losses += len(fold) * np.einsum("km,mn,kn->k", tried, error_gram(outputs.rows(fold)), tried)
        weights = shrunk(solve_squared_error(error_gram(outputs)), equal)[int(losses.argmin())]
        return Recipe("weighted_mean", outputs.names, by_name(outputs.names, weights))


@dataclass(frozen=True)
class LeastAbsolute:
    """The weighted mean of least absolute error, drawn towards equal weights as far as that helps rows left out."""

    name: ClassVar[str] = "tuned"
    kind: ClassVar[Kind] = "ensemble"
    fitted: ClassVar[bool] = True

    def fit(self, outputs: Outputs, seed: int) -> Recipe:
        some = outputs.sample(_ROWS, seed)
        values, equal = some.probs[:, :, 0].astype(np.float64), np.full(len(some.names), 1.0 / len(some.names))
        losses, counts = np.zeros(len(SHRINKAGES)), some.weights
        for rest, fold in folds_of(some.labels, some.groups, some.times, _FOLDS, seed):
            solved = pinball_weights(
                values[:, rest], some.labels[rest], counts=None if counts is None else counts[rest]
            )
            errors = np.abs(shrunk(solved.values, equal) @ values[:, fold] - some.labels[fold])
            losses += errors.sum(axis=1) if counts is None else errors @ counts[fold]
        solved = pinball_weights(values, some.labels, counts=counts)
        weights = shrunk(solved.values, equal)[int(losses.argmin())]
        return Recipe("weighted_mean", some.names, by_name(some.names, weights))


def value_gap(outputs: Outputs, weights: Mapping[str, float], metric: str) -> float:
    """How much lower the error of a weighted mean can be at most than at these weights, by rmse or mae."""
    given = np.array([weights[name] for name in outputs.names])
    if metric != "mae":
        gap: float = squared_error_score(error_gram(outputs), given, root=True)[1]
        return gap
    some = outputs.sample(_ROWS, 0)
    values = some.probs[:, :, 0].astype(np.float64)
    best = pinball_weights(values, some.labels, counts=some.weights)
    found = pinball_loss(values, some.labels, given, share=some.weights)
    return 2 * max(0.0, found - best.score + (best.gap or 0.0))


def error_gram(outputs: Outputs) -> Floats:
    """(M, M) weighted means of products of the members' errors."""
    values, truth = outputs.probs[:, :, 0].astype(np.float64), outputs.labels
    if outputs.weights is not None:
        root = np.sqrt(outputs.weights / outputs.weights.mean())
        values, truth = (values - truth) * root, np.zeros(len(truth))
    return residual_gram(values, truth)
