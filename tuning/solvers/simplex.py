"""Weights solved on the simplex, with a certificate of how far they can be from the best possible.

Log-loss by sequential quadratic programming (Kim, Carbonetto, Stephens, Anitescu 2020, "A fast algorithm for maximum
likelihood estimation of mixture proportions using sequential quadratic programming", JCGS 29(2)); squared error by one
non-negative least-squares problem. The gap is Frank-Wolfe's (Jaggi 2013, "Revisiting Frank-Wolfe", section 2).
"""

# M members, N rows, C classes

from __future__ import annotations

import math
from typing import Any

import numpy as np
import scipy.linalg
import scipy.optimize
from numpy.typing import ArrayLike, NDArray

from quorate.tuning.errors import TuningError
from quorate.tuning.scoring import Floats, check_predictions, residual_gram, true_class
from quorate.tuning.solvers.columns import Columns, TrueClass
from quorate.tuning.solvers.weights import Weights

TOLERANCE = 1e-9
_ITERATIONS = 100
# Of a score: as far apart it may come out of another order of the same sums, and no proof of a gap is closer.
_ROUNDING = 4 * float(np.finfo(np.float64).eps)
# Above this many rows a tenth of them gives the first guess, which saves most full passes.
_SUBSAMPLE_ABOVE = 20_000


def simplex_weights(probs: ArrayLike, labels: ArrayLike, metric: str = "log_loss") -> Weights:
    """Solve for the weights >= 0 with sum 1 that give the weighted mean the lowest loss.

    Args:
        probs: (M, N, C) probabilities; for rmse (M, N) or (M, N, 1) values.
        labels: (N,) index of the true class; for rmse the true values.
        metric: log_loss (nats per row), brier (summed over classes) or rmse.

    Returns:
        The weights, their loss on these rows, and the gap: no weights have a loss lower by more than it.

    Raises:
        TuningError: another metric; it has no convex problem to solve.
        PredictionError: predictions and labels do not fit, or are no probabilities.
    """
    if metric not in ("log_loss", "brier", "rmse"):
        fix = "give log_loss, brier or rmse, or use greedy_weights, which takes any metric"
        raise TuningError("metric", f"{metric!r} is not convex in the weights", fix)
    outputs, truth = check_predictions(probs, labels, metric)
    if metric == "log_loss":
        return solved_log_loss(Columns(true_class(outputs, truth)))
    return solved_squared_error(residual_gram(outputs, truth), root=metric == "rmse")


def solved_squared_error(gram: Floats, root: bool) -> Weights:
    """The weights of least squared error, or root of it, with score and gap."""
    weights = solve_squared_error(gram)
    return Weights(weights, *squared_error_score(gram, weights, root))


def solved_log_loss(rows: TrueClass) -> Weights:
    """The weights of least log-loss, with score and gap."""
    weights = solve_rows(rows)
    score = rows.loss(weights) / rows.rows
    return Weights(weights, score, rows_gap(rows, weights) + _ROUNDING * abs(score))


def log_loss_gap(columns: NDArray[Any], weights: Floats) -> float:
    """How much lower than at ``weights`` the log-loss can be at most: max of minus the gradient, less one."""
    return rows_gap(Columns(columns), weights)


def rows_gap(rows: TrueClass, weights: Floats) -> float:
    """The same over rows that may lie elsewhere."""
    return max(0.0, float(rows.slopes(weights).max()) / rows.rows - 1.0)


def squared_error_score(gram: Floats, weights: Floats, root: bool) -> tuple[float, float]:
    """Squared error at ``weights`` and its Frank-Wolfe gap, or the root of it and the gap in the root's unit."""
    slopes = 2 * gram @ weights
    error = max(0.0, float(weights @ gram @ weights))
    gap = max(0.0, float(weights @ slopes - slopes.min())) + _ROUNDING * error
    if root:
        return math.sqrt(error), math.sqrt(error) - math.sqrt(max(0.0, error - gap))
    return error, gap


def solve_squared_error(gram: Floats) -> Floats:
    """Minimise w' G w on the simplex.

    With the sum moved into the objective as (1'w - 1)^2 the problem is non-negative least squares, whose solution is a
    multiple of ours: both have the same optimality conditions once divided by their sum.
    """
    values, vectors = np.linalg.eigh(gram)
    factor = np.sqrt(np.maximum(values, 0.0))[:, None] * vectors.T
    scale = math.sqrt(max(float(np.trace(gram)) / len(gram), 1e-300))
    sides = np.vstack([factor, np.full((1, len(gram)), scale)])
    weights, _ = scipy.optimize.nnls(sides, np.append(np.zeros(len(gram)), scale))
    return np.asarray(weights / weights.sum(), dtype=np.float64)


def solve_log_loss(columns: NDArray[Any]) -> Floats:
    """Minimise -mean log(w'T) on the simplex; T (M, N) is each member's probability of the true class, above 0."""
    return solve_rows(Columns(columns))


def solve_rows(rows: TrueClass, start: Floats | None = None) -> Floats:
    """Minimise -mean log(w'T) on the simplex over rows that may lie elsewhere; (M,) weights.

    Args:
        start: (M,) weights that are likely near; what comes out is the same within the tolerance, in fewer passes.
    """
    if start is None and rows.rows > _SUBSAMPLE_ABOVE:
        start = solve_rows(rows.every(rows.rows // (_SUBSAMPLE_ABOVE // 10)))
    weights = np.full(rows.members, 1.0 / rows.members)
    if start is not None:
        weights = 0.99 * start + 0.01 / rows.members  # a zero of it may be wrong and is slow to leave
    for _ in range(_ITERATIONS):
        slopes = rows.slopes(weights) / rows.rows
        if slopes.max() - 1.0 <= TOLERANCE:
            break
        target = _newton_target(rows.hessian(weights) / rows.rows, slopes, weights)
        step = _step(rows, weights, target)
        if step == 0.0:
            break
        weights = weights + step * (target - weights)
        weights /= weights.sum()
    return weights


def _newton_target(hessian: Floats, slopes: Floats, weights: Floats) -> Floats:
    """Minimiser over w >= 0 of the quadratic model of -mean log(w'T) + sum(w), whose optimum has sum one by itself."""
    ridge = 1e-10 * float(np.trace(hessian))  # twins among the members make it singular
    lower = scipy.linalg.cholesky(hessian + ridge * np.eye(len(weights)), lower=True)
    linear = 2 * slopes - 1 + ridge * weights  # H w is the slopes themselves
    target, _ = scipy.optimize.nnls(lower.T, scipy.linalg.solve_triangular(lower, linear, lower=True))
    return np.asarray(target, dtype=np.float64)


def _step(rows: TrueClass, weights: Floats, target: Floats) -> float:
    """Halve the step from 1 until the loss falls by a hundredth of what its slope promises; 0 if it never does."""
    sum_change = float(target.sum() - weights.sum())
    step = 1.0
    while step > 1e-12:
        least, logs, change = rows.step(weights, target, step).tolist()
        slope = sum_change - change / rows.rows
        if least > 0 and step * sum_change - logs / rows.rows <= 0.01 * step * slope:
            return step
        step /= 2
    return 0.0
