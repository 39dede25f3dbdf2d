"""Alternatives that weigh members: linear and log-linear pools of what they say."""

# M members, N rows, C classes

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from quorate.fusion.calibration.calibration import Calibration
from quorate.tuning.alternatives.base import Kind, Outputs
from quorate.tuning.alternatives.one_error_more import one_error_more
from quorate.tuning.alternatives.recipe import Recipe
from quorate.tuning.data.folds import folds_of
from quorate.tuning.scoring import Floats, true_class
from quorate.tuning.solvers.columns import Columns
from quorate.tuning.solvers.log_pool import log_pool_loss, log_pool_weights
from quorate.tuning.solvers.simplex import solve_rows

# Shares of the way from the solved weights to equal ones.
SHRINKAGES = np.array([0.0, 0.1, 0.25, 0.5, 0.75, 1.0])
_FLOORS = (1e-12, 1e-9, 1e-6, 1e-4, 1e-3, 1e-2)
_FOLDS = 5


@dataclass(frozen=True)
class LinearPool:
    """The weighted mean of least log-loss, drawn towards equal weights as far as that helps rows left out."""

    name: ClassVar[str] = "tuned"
    kind: ClassVar[Kind] = "ensemble"
    fitted: ClassVar[bool] = True

    def fit(self, outputs: Outputs, seed: int) -> Recipe:
        weights = shrunk_weights(true_class(outputs.probs, outputs.labels), outputs, seed)
        return Recipe("weighted_mean", outputs.names, by_name(outputs.names, weights))


@dataclass(frozen=True)
class LogPool:
    """The weighted geometric mean of least log-loss, with the temperature that is solved with its weights."""

    name: ClassVar[str] = "log_pool"
    kind: ClassVar[Kind] = "ensemble"
    fitted: ClassVar[bool] = True

    def fit(self, outputs: Outputs, seed: int) -> Recipe:
        probs, labels, counts = one_error_more(outputs.probs, outputs.labels, outputs.weights)
        equal = np.full(len(outputs.names), 1.0 / len(outputs.names))
        floor = min(_FLOORS, key=lambda floor: log_pool_loss(probs, labels, equal, floor, counts))
        weights = log_pool_weights(probs, labels, floor, counts).values
        total = max(float(weights.sum()), 1e-3)
        shares = weights / total if weights.sum() > 0 else equal
        shares = np.where(shares < 1e-6, 0.0, shares)  # next to nothing is not worth asking a member for
        return Recipe(
            "geometric_mean", outputs.names, by_name(outputs.names, shares / shares.sum()), {"floor": floor},
            calibration=Calibration((total,)),
        )  # fmt: skip


def shrunk_weights(columns: Floats, outputs: Outputs, seed: int) -> Floats:
    """(M,) weights of least log-loss on true-class columns (M, N), shrunk by as much as cross-validation says.

    Args:
        outputs: the same rows, for their folds and how much they count.
        seed: of the folds.
    """
    counts, equal = outputs.weights, np.full(len(columns), 1.0 / len(columns))
    solved = solve_rows(Columns(columns, counts=counts))
    if len(columns) == 1:
        return solved
    losses = np.zeros(len(SHRINKAGES))
    for rest, fold in folds_of(outputs.labels, outputs.groups, outputs.times, _FOLDS, seed):
        part = None if counts is None else counts[rest] / counts[rest].mean()
        fit = solve_rows(Columns(columns[:, rest], counts=part))
        fused = np.log(shrunk(fit, equal) @ columns[:, fold])
        losses -= fused.sum(axis=1) if counts is None else fused @ counts[fold]
    return np.asarray(shrunk(solved, equal)[int(losses.argmin())])


def shrunk(weights: Floats, equal: Floats) -> Floats:
    """(len(SHRINKAGES), M) weights between these and equal ones."""
    share = SHRINKAGES[:, None]
    return np.asarray((1 - share) * weights + share * equal)


def by_name(names: tuple[str, ...], values: NDArray[np.float64]) -> Mapping[str, float]:
    return {name: float(value) for name, value in zip(names, values, strict=True)}
