"""Alternatives that weigh members: linear and log-linear pools of what they say."""

# M members, N rows, C classes

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
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
Rows = NDArray[np.intp] | slice


@dataclass(frozen=True)
class LinearPool:
    """The weighted mean of least log-loss, drawn towards equal weights as far as that helps rows left out.

    Attributes:
        start: weights that are served now, which the solver begins with.
    """

    start: Mapping[str, float] = field(default_factory=dict)
    name: ClassVar[str] = "tuned"
    kind: ClassVar[Kind] = "ensemble"
    fitted: ClassVar[bool] = True

    def fit(self, outputs: Outputs, seed: int) -> Recipe:
        start = np.array([self.start.get(name, 0.0) for name in outputs.names])
        begun = start / start.sum() if start.sum() > 0 else None
        weights = shrunk_weights(true_class(outputs.probs, outputs.labels), outputs, seed, begun)
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


def shrunk_weights(columns: Floats, outputs: Outputs, seed: int, start: Floats | None = None) -> Floats:
    """(M,) weights of least log-loss on true-class columns (M, N), shrunk by as much as cross-validation says.

    Args:
        outputs: the same rows, for their folds and how much they count.
        seed: of the folds.
        start: (M,) weights that the solver begins with.
    """
    counts = outputs.weights

    def solved(rows: Rows) -> Floats:
        part = None if counts is None else counts[rows] / counts[rows].mean()
        found: Floats = solve_rows(Columns(columns[:, rows], counts=part), start)
        return found

    def losses(tried: Floats, rows: Rows) -> Floats:
        fused = np.log(tried @ columns[:, rows])
        return np.asarray(-fused.sum(axis=1) if counts is None else -(fused @ counts[rows]))

    return shrunk(outputs, seed, solved, losses)


def shrunk(
    outputs: Outputs, seed: int, solved: Callable[[Rows], Floats], losses: Callable[[Floats, Rows], Floats]
) -> Floats:
    """(M,) solved weights, drawn towards equal ones as far as that helps rows left out.

    Args:
        outputs: the rows, for their folds.
        seed: of the folds.
        solved: the best weights (M,) on rows of these numbers, or on all for a slice.
        losses: (K,) what each of weights (K, M) loses on rows of these numbers, summed over them.
    """
    whole, share = solved(slice(None)), SHRINKAGES[:, None]
    if len(whole) == 1:
        return whole
    equal, total = np.full(len(whole), 1.0 / len(whole)), np.zeros(len(SHRINKAGES))
    for rest, fold in folds_of(outputs.labels, outputs.groups, outputs.times, _FOLDS, seed):
        total += losses((1 - share) * solved(rest) + share * equal, fold)
    best = SHRINKAGES[int(total.argmin())]
    return np.asarray((1 - best) * whole + best * equal)


def by_name(names: tuple[str, ...], values: NDArray[np.float64]) -> Mapping[str, float]:
    return {name: float(value) for name, value in zip(names, values, strict=True)}
